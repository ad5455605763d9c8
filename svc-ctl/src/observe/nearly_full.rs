//! Complains of tables that cannot grow and are nearly full.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::ledger::Ledger;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::reconcile::{Progress, TableSize};
use crate::sweeper::SweepReport;

/// Percentages at which a complaint begins and ends. They differ, so that use around one limit does not complain
/// again and again.
const NEARLY_FULL: u64 = 70;
const RELAXED: u64 = 60;

/// Follows the loop and the sweeper until either is gone.
pub async fn run(
    node: String,
    mut progress: watch::Receiver<Progress>,
    mut sweeps: watch::Receiver<SweepReport>,
    ledger: Ledger,
) -> anyhow::Result<()> {
    let mut tables = NearlyFull::default();
    loop {
        let sizes = progress.borrow_and_update().sizes.clone();
        let usage = sweeps.borrow_and_update().usage.clone();
        let of_programs = usage.iter().map(|usage| (usage.table, usage.used, usage.capacity));
        let fixed = sizes.iter().filter(|size| !size.can_grow).map(of_loop);
        let complaints = tables.update(&node, of_programs.chain(fixed));
        ledger.set(Origin::Tables, complaints);
        tokio::select! {
            changed = progress.changed() => changed?,
            changed = sweeps.changed() => changed?,
        }
    }
}

const fn of_loop(size: &TableSize) -> (&'static str, u64, u64) {
    (size.table, size.used, size.capacity)
}

/// Tables with a current complaint.
#[derive(Debug, Default)]
struct NearlyFull(BTreeSet<&'static str>);

impl NearlyFull {
    /// Complaints for the tables, given as name, used and total entries. They contain no number that changes often.
    fn update(
        &mut self,
        node: &str,
        tables: impl Iterator<Item = (&'static str, u64, u64)>,
    ) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let before = std::mem::take(&mut self.0);
        for (table, used, capacity) in tables {
            let limit = if before.contains(table) { RELAXED } else { NEARLY_FULL };
            let is_over = capacity != 0 && u128::from(used) * 100 >= u128::from(capacity) * u128::from(limit);
            if is_over {
                self.0.insert(table);
                let reason = format!("{NEARLY_FULL} % or more of its {capacity} entries are used");
                complaints.push(Complaint::new(Kind::TableNearlyFull, format!("Node {node}"), table, reason));
            }
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_nearly_full_from_70_percent_until_it_is_below_60() {
        let mut tables = NearlyFull::default();
        let mut complained = |used| {
            let list = tables.update("n1", [("flows (IPv4)", used, 1_000), ("x", 0, 0)].into_iter());
            list.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let complaint = ["Node n1: flows (IPv4): 70 % or more of its 1000 entries are used"];
        assert_eq!(complained(699), [""; 0]);
        for used in [700, 1_000, 699, 600] {
            assert_eq!(complained(used), complaint, "{used}");
        }
        for used in [599, 600, 699] {
            assert_eq!(complained(used), [""; 0], "{used}");
        }
        assert_eq!(complained(700), complaint);
    }

    #[tokio::test(start_paused = true)]
    async fn no_complaint_about_a_table_that_can_grow() {
        let ledger = Ledger::default();
        let (progress, progress_reader) = watch::channel(Progress::default());
        let (_sweeps, sweep_reader) = watch::channel(SweepReport::default());
        let task = tokio::spawn(run("n1".to_owned(), progress_reader, sweep_reader, ledger.clone()));
        let size = |table, can_grow| TableSize { table, used: 9, capacity: 10, can_grow };
        progress.send_modify(|p| p.sizes = vec![size("backends", true), size("prefixes (IPv4)", false)]);
        let mut all = ledger.subscribe();
        let complaints = all.wait_for(|all| !all.is_empty()).await.unwrap().clone();
        let fields: Vec<_> = complaints[&Origin::Tables].iter().map(|c| c.field.clone()).collect();
        assert_eq!(fields, ["prefixes (IPv4)"]);
        task.abort();
    }
}
