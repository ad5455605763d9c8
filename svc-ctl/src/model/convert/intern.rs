//! Interns strings that many objects repeat (namespaces, nodes, zones, port names) and names of Services.

use std::cell::RefCell;
use std::hash::Hash;
use std::sync::Arc;

use equivalent::Equivalent;
use hashbrown::HashSet;

use crate::model::name::ServiceName;

struct Known<T> {
    all: HashSet<T>,
    /// Number of values at which unused ones are dropped.
    next_cleaning: usize,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { all: HashSet::default(), next_cleaning: 0 }
    }
}

impl<T: Clone + Eq + Hash> Known<T> {
    /// The known copy, or a new one.
    fn get<Q: Equivalent<T> + Hash + ?Sized>(
        &mut self,
        wanted: &Q,
        is_only_copy: fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> T {
        if let Some(known) = self.all.get(wanted) {
            return known.clone();
        }
        if self.all.len() >= self.next_cleaning {
            self.all.retain(|known| !is_only_copy(known));
            self.next_cleaning = (2 * self.all.len()).max(1024);
        }
        let new = make();
        self.all.insert(new.clone());
        new
    }
}

thread_local! {
    static WORDS: RefCell<Known<Arc<str>>> = RefCell::default();
    static SERVICES: RefCell<Known<ServiceName>> = RefCell::default();
}

/// The shared copy of a string on this thread.
pub fn interned(word: &str) -> Arc<str> {
    WORDS.with_borrow_mut(|words| words.get(word, |word| Arc::strong_count(word) == 1, || word.into()))
}

/// The one copy of a Service's name on this thread.
pub fn interned_service(namespace: &str, name: &str) -> ServiceName {
    let make = || ServiceName::in_namespace(interned(namespace), name);
    SERVICES.with_borrow_mut(|known| known.get(&(namespace, name), ServiceName::is_only_copy, make))
}

impl Equivalent<ServiceName> for (&str, &str) {
    fn equivalent(&self, key: &ServiceName) -> bool {
        (&*key.namespace, &*key.name) == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interned_string_is_stored_once_and_dropped_when_unused() {
        let (first, second) = (interned("zone-a"), interned("zone-a"));
        assert!(Arc::ptr_eq(&first, &second));
        (0..5_000).for_each(|n| drop(interned(&format!("node-{n}"))));
        assert!(WORDS.with_borrow(|words| words.all.len()) < 2_048);
    }

    #[test]
    fn a_service_has_one_name() {
        let (first, second) = (interned_service("default", "web"), interned_service("default", "web"));
        assert!(std::ptr::eq(&raw const *first, &raw const *second));
        assert_eq!(first, ServiceName::new("default", "web"));
        drop(second);
        assert!(!first.is_only_copy(), "the table of names holds it");
    }
}
