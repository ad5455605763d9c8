//! A map that knows whether it differs from what was last taken out: changes that are taken back cancel (SEM-263).

use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub struct Tracker<K, V> {
    current: BTreeMap<K, Arc<V>>,
    /// What stood here when the last snapshot was taken, for each key that has changed since.
    before: BTreeMap<K, Option<Arc<V>>>,
    /// The list that is being received; takes the place of `current` when it is complete, so that a re-list tears
    /// nothing (SEM-271).
    incoming: Option<BTreeMap<K, Arc<V>>>,
    synced: bool,
}

impl<K, V> Default for Tracker<K, V> {
    fn default() -> Self {
        Self { current: BTreeMap::new(), before: BTreeMap::new(), incoming: None, synced: false }
    }
}

impl<K: Ord + Clone, V: PartialEq> Tracker<K, V> {
    pub const fn current(&self) -> &BTreeMap<K, Arc<V>> {
        &self.current
    }

    pub const fn is_synced(&self) -> bool {
        self.synced
    }

    pub fn is_dirty(&self) -> bool {
        !self.before.is_empty()
    }

    /// What is there now has been taken out.
    pub fn clear_dirty(&mut self) {
        self.before.clear();
    }

    pub fn set(&mut self, key: &K, value: Option<V>) {
        self.set_shared(key, value.map(Arc::new).as_ref());
    }

    fn set_shared(&mut self, key: &K, value: Option<&Arc<V>>) {
        let old = self.current.get(key).cloned();
        if old.as_ref() == value {
            return;
        }
        match value {
            Some(new) => self.current.insert(key.clone(), Arc::clone(new)),
            None => self.current.remove(key),
        };
        let before = self.before.entry(key.clone()).or_insert(old);
        if before.as_ref() == value {
            self.before.remove(key);
        }
    }

    pub fn begin_list(&mut self) {
        self.incoming = Some(BTreeMap::new());
    }

    pub fn list(&mut self, key: K, value: V) {
        self.incoming.get_or_insert_default().insert(key, Arc::new(value));
    }

    pub fn end_list(&mut self) {
        let incoming = self.incoming.take().unwrap_or_default();
        let gone: Vec<K> = self.current.keys().filter(|k| !incoming.contains_key(k)).cloned().collect();
        for key in gone {
            self.set_shared(&key, None);
        }
        for (key, value) in incoming {
            self.set_shared(&key, Some(&value));
        }
        self.synced = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_055_a_change_taken_back_is_no_change() {
        let mut map = Tracker::default();
        map.set(&1, Some("a"));
        map.clear_dirty();
        map.set(&1, Some("b"));
        assert!(map.is_dirty());
        map.set(&1, Some("a"));
        assert!(!map.is_dirty());
        map.set(&2, Some("c"));
        map.set(&2, None);
        assert!(!map.is_dirty());
    }

    #[test]
    fn a_relist_replaces_the_map_only_when_it_is_complete() {
        let mut map = Tracker::default();
        map.set(&1, Some("a"));
        map.set(&2, Some("b"));
        map.clear_dirty();
        map.begin_list();
        map.list(1, "a");
        assert_eq!(map.current().len(), 2);
        assert!(!map.is_synced());
        map.end_list();
        assert_eq!(map.current().len(), 1);
        assert!(map.is_dirty() && map.is_synced());
    }
}
