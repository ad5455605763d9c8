//! A map by backend id. Ids are given out from 1 upwards, so that a vector has few holes and half the size of a tree.

use svc_common::abi::BackendId;

#[derive(Clone, Debug)]
pub struct BackendMap<T> {
    /// By id.
    slots: Vec<Option<T>>,
    len: usize,
}

impl<T> Default for BackendMap<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), len: 0 }
    }
}

impl<T> BackendMap<T> {
    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, id: &BackendId) -> Option<&T> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, id: &BackendId) -> Option<&mut T> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    pub fn contains_key(&self, id: &BackendId) -> bool {
        self.get(id).is_some()
    }

    /// The value that was there before.
    pub fn insert(&mut self, id: BackendId, value: T) -> Option<T> {
        let before = self.slot(id).replace(value);
        self.len += usize::from(before.is_none());
        before
    }

    pub fn get_or_insert(&mut self, id: BackendId, value: T) -> &mut T {
        self.len += usize::from(!self.contains_key(&id));
        self.slot(id).get_or_insert(value)
    }

    pub fn remove(&mut self, id: &BackendId) -> Option<T> {
        let before = self.slots.get_mut(id.0 as usize)?.take();
        self.len -= usize::from(before.is_some());
        before
    }

    /// In the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (BackendId, &T)> {
        (0..).map(BackendId).zip(&self.slots).filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    pub fn keys(&self) -> impl Iterator<Item = BackendId> {
        self.iter().map(|(id, _)| id)
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    fn slot(&mut self, id: BackendId) -> &mut Option<T> {
        let at = id.0 as usize;
        if at >= self.slots.len() {
            // Doubling a vector of a million entries would waste as much memory again.
            if at >= self.slots.capacity() {
                self.slots.reserve_exact(at + 1 - self.slots.len() + at / 8);
            }
            self.slots.resize_with(at + 1, || None);
        }
        &mut self.slots[at]
    }
}

/// Maps with the same entries are equal, also if one of them has had larger ids.
impl<T: PartialEq> PartialEq for BackendMap<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for BackendMap<T> {}

impl<T> Extend<(BackendId, T)> for BackendMap<T> {
    fn extend<I: IntoIterator<Item = (BackendId, T)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(id, value)| drop(self.insert(id, value)));
    }
}

impl<T> FromIterator<(BackendId, T)> for BackendMap<T> {
    fn from_iter<I: IntoIterator<Item = (BackendId, T)>>(entries: I) -> Self {
        let mut dense = Self::default();
        dense.extend(entries);
        dense
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_counts_and_compares_its_entries_and_not_its_slots() {
        let mut dense: BackendMap<char> = [(BackendId(1), 'a'), (BackendId(9), 'b')].into_iter().collect();
        assert_eq!((dense.insert(BackendId(1), 'c'), dense.len()), (Some('a'), 2));
        assert_eq!(
            (dense.remove(&BackendId(9)), dense.remove(&BackendId(9)), dense.len()),
            (Some('b'), None, 1)
        );
        assert_eq!(dense, [(BackendId(1), 'c')].into_iter().collect());
        *dense.get_or_insert(BackendId(3), 'd') = 'e';
        assert_eq!(dense.iter().collect::<Vec<_>>(), [(BackendId(1), &'c'), (BackendId(3), &'e')]);
        assert_eq!(dense.remove(&BackendId(100)), None);
    }
}
