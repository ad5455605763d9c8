//! Decides when a table is read. A table that cannot have anything to remove is not read, and one that takes long is
//! read rarely.

use std::time::{Duration, Instant};

use svc_common::abi::EntryCount;

use super::table::{LONGEST_PERIOD, Table};

/// Passes over one table take at most 1/`SHARE` of one core.
const SHARE: u32 = 100;

/// Result of the last pass over a table.
#[derive(Clone, Copy, Debug)]
pub struct LastPass {
    pub began: Instant,
    pub took: Duration,
    /// Entries left.
    pub present: u64,
    /// Time until the first of them may expire if no packet comes; `None` if none ever does.
    pub soonest: Option<Duration>,
    /// Entries that programs had inserted and removed before it; `None` if unknown.
    pub counts: Option<EntryCount>,
}

/// The table must be read now. `is_loss`: a backend was removed, and its entries may be here.
pub fn is_due(
    table: Table,
    last: Option<&LastPass>,
    counts: Option<EntryCount>,
    is_loss: bool,
    now: Instant,
) -> bool {
    let Some(last) = last else { return true };
    let is_unchanged = counts.is_some() && counts == last.counts;
    if is_unchanged && last.present == 0 {
        return false;
    }
    if is_loss {
        return true;
    }
    let shortest = table.period().max(last.took.saturating_mul(SHARE)).min(LONGEST_PERIOD);
    let period = match is_unchanged {
        true => last.soonest.unwrap_or(LONGEST_PERIOD).clamp(shortest, LONGEST_PERIOD),
        false => shortest,
    };
    now.saturating_duration_since(last.began) >= period
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: EntryCount = EntryCount { made: 7, removed: 3 };
    const MORE: EntryCount = EntryCount { made: 8, removed: 3 };

    fn last(present: u64, soonest: u64) -> LastPass {
        LastPass {
            began: Instant::now(),
            took: Duration::from_millis(1),
            present,
            soonest: Some(Duration::from_secs(soonest)),
            counts: Some(MADE),
        }
    }

    /// Seconds until a table is read, if within two minutes.
    fn due_after(table: Table, last: &LastPass, counts: Option<EntryCount>) -> Option<u64> {
        (0..120).find(|&s| is_due(table, Some(last), counts, false, last.began + Duration::from_secs(s)))
    }

    #[test]
    fn a_table_that_was_never_read_is_read() {
        assert!(is_due(Table::Flows4, None, Some(MADE), false, Instant::now()));
    }

    #[test]
    fn an_empty_table_is_read_once_programs_have_made_an_entry() {
        let empty = last(0, 0);
        assert_eq!(due_after(Table::Flows4, &empty, Some(MADE)), None);
        assert!(!is_due(Table::Flows4, Some(&empty), Some(MADE), true, empty.began));
        assert_eq!(due_after(Table::Flows4, &empty, Some(MORE)), Some(5));
        assert!(is_due(Table::Flows4, Some(&empty), Some(MORE), true, empty.began));
    }

    #[test]
    fn a_table_that_changes_is_read_every_five_seconds_and_an_unchanged_one_when_something_expires() {
        assert_eq!(due_after(Table::Flows4, &last(9, 3_600), Some(MORE)), Some(5));
        assert_eq!(due_after(Table::Flows4, &last(9, 3_600), Some(MADE)), Some(30));
        assert_eq!(due_after(Table::Flows4, &last(9, 12), Some(MADE)), Some(12));
        assert_eq!(due_after(Table::Flows4, &last(9, 1), Some(MADE)), Some(5));
        let for_ever = LastPass { soonest: None, ..last(9, 0) };
        assert_eq!(due_after(Table::Flows4, &for_ever, Some(MADE)), Some(30));
    }

    #[test]
    fn a_table_in_which_nothing_expires_is_counted_every_thirty_seconds() {
        assert_eq!(due_after(Table::Sockets4, &last(9, 0), Some(MORE)), Some(30));
        let uncounted = LastPass { counts: None, ..last(0, 0) };
        assert_eq!(due_after(Table::Interfaces, &uncounted, None), Some(30));
    }

    #[test]
    fn after_a_loss_a_table_is_read_at_once() {
        let full = last(9, 3_600);
        assert!(is_due(Table::Sockets4, Some(&full), Some(MADE), true, full.began));
    }

    #[test]
    fn a_table_that_takes_long_is_read_rarely() {
        let slow = |took| LastPass { took: Duration::from_millis(took), ..last(9, 1) };
        assert_eq!(due_after(Table::Flows4, &slow(120), Some(MORE)), Some(12));
        assert_eq!(due_after(Table::Flows4, &slow(9_000), Some(MORE)), Some(30));
    }

    #[test]
    fn without_counts_a_table_is_read_as_if_it_had_changed() {
        assert_eq!(due_after(Table::Flows4, &last(0, 0), None), Some(5));
    }
}
