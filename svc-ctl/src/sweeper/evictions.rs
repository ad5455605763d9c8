//! Number of entries that the kernel evicted from a table: inserted, never removed, and yet absent.

use svc_common::abi::EntryCount;

/// Entries of one table that were evicted since the daemon started. Never overstated and never decreasing. A pass
/// takes time: changes by programs during a pass are counted as not evicted, and the next pass corrects that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evictions {
    total: u64,
    since: Option<Since>,
}

/// Start of counting.
#[derive(Clone, Copy, Debug)]
struct Since {
    map_id: u32,
    /// Entries missing at that time for unknown reasons.
    missing: i128,
    /// The total at that time.
    total: u64,
    made: u64,
}

/// One pass over a table.
#[derive(Clone, Copy, Debug)]
pub struct TablePass {
    /// The kernel's id of the map; it changes when the table is replaced.
    pub map_id: u32,
    /// Entries that programs had inserted and removed before the pass.
    pub before: EntryCount,
    /// The same after the pass.
    pub after: EntryCount,
    /// Entries that the sweeper removed since it started, this pass included.
    pub swept: u64,
    /// Entries left by the pass.
    pub present: u64,
}

impl Evictions {
    pub fn count(&mut self, pass: &TablePass) -> u64 {
        let gone = |made: u64, removed: u64| {
            i128::from(made) - i128::from(removed) - i128::from(pass.swept) - i128::from(pass.present)
        };
        let continued = |s: &Since| s.map_id == pass.map_id && s.made <= pass.before.made;
        match self.since.filter(continued) {
            Some(since) => {
                let missing = gone(pass.before.made, pass.after.removed) - since.missing;
                let now = since.total.saturating_add(u64::try_from(missing).unwrap_or(0));
                self.total = self.total.max(now);
                self.since = Some(Since { made: pass.before.made, ..since });
            }
            None => {
                let missing = gone(pass.after.made, pass.before.removed);
                let made = pass.before.made;
                self.since = Some(Since { map_id: pass.map_id, missing, total: self.total, made });
            }
        }
        self.total
    }

    pub const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(made: u64, removed: u64, swept: u64, present: u64) -> TablePass {
        let count = EntryCount { made, removed };
        TablePass { map_id: 1, before: count, after: count, swept, present }
    }

    #[test]
    fn an_entry_neither_removed_nor_present_was_evicted() {
        let mut evictions = Evictions::default();
        // The time before this daemon is unknown: 1,000 inserted, 700 missing.
        assert_eq!(evictions.count(&quiet(1_000, 100, 0, 200)), 0);
        assert_eq!(evictions.count(&quiet(1_100, 150, 20, 230)), 0);
        assert_eq!(evictions.count(&quiet(1_200, 150, 20, 300)), 30);
        assert_eq!(evictions.count(&quiet(1_200, 150, 320, 0)), 30);
    }

    #[test]
    fn changes_during_a_pass_are_not_counted_as_evictions() {
        let mut evictions = Evictions::default();
        let busy = |before, after, present| TablePass {
            map_id: 1,
            before: EntryCount { made: before, removed: 0 },
            after: EntryCount { made: after, removed: 0 },
            swept: 0,
            present,
        };
        // It depends on their place in the table whether the pass saw the fifty new ones.
        assert_eq!(evictions.count(&busy(100, 150, 100)), 0);
        assert_eq!(evictions.count(&busy(150, 200, 200)), 0);
        assert_eq!(evictions.count(&busy(200, 250, 200)), 0);
        assert_eq!(evictions.count(&quiet(250, 0, 0, 190)), 10);
        assert_eq!(evictions.count(&busy(250, 300, 240)), 10, "never less than before");
    }

    #[test]
    fn a_table_that_was_replaced_is_counted_from_then_on() {
        let mut evictions = Evictions::default();
        evictions.count(&quiet(0, 0, 0, 0));
        assert_eq!(evictions.count(&quiet(100, 0, 0, 90)), 10);
        let replaced = |made, present| TablePass { map_id: 2, ..quiet(made, 0, 0, present) };
        assert_eq!(evictions.count(&replaced(100, 0)), 10);
        assert_eq!(evictions.count(&replaced(150, 45)), 15);
        // Another ENTRIES map starts counting anew.
        assert_eq!(evictions.count(&replaced(5, 50)), 15);
        assert_eq!(evictions.count(&replaced(12, 50)), 22);
        assert_eq!(evictions.total(), 22);
    }
}
