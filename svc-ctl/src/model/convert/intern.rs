//! Interns strings that many objects repeat (namespaces, nodes, zones, port names).

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Default)]
struct Words {
    known: HashSet<Arc<str>>,
    /// Number of strings at which unused ones are dropped.
    next_cleaning: usize,
}

thread_local! {
    static WORDS: RefCell<Words> = RefCell::default();
}

/// The shared copy of a string on this thread.
pub fn interned(word: &str) -> Arc<str> {
    WORDS.with_borrow_mut(|words| {
        if let Some(known) = words.known.get(word) {
            return Arc::clone(known);
        }
        if words.known.len() >= words.next_cleaning {
            words.known.retain(|word| Arc::strong_count(word) > 1);
            words.next_cleaning = (2 * words.known.len()).max(1024);
        }
        let new: Arc<str> = word.into();
        words.known.insert(Arc::clone(&new));
        new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interned_string_is_stored_once_and_dropped_when_unused() {
        let (first, second) = (interned("zone-a"), interned("zone-a"));
        assert!(Arc::ptr_eq(&first, &second));
        (0..5_000).for_each(|n| drop(interned(&format!("node-{n}"))));
        assert!(WORDS.with_borrow(|words| words.known.len()) < 2_048);
    }
}
