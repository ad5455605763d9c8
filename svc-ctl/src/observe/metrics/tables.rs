//! Usage of the kernel's tables.

use std::fmt;

use tokio::sync::watch;

use super::Part;
use super::page::{Labels, Page};
use crate::reconcile::Progress;
use crate::sweeper::{SweepReport, Table};

#[derive(Debug)]
pub struct Tables {
    pub progress: watch::Receiver<Progress>,
    pub sweeps: watch::Receiver<SweepReport>,
}

impl Part for Tables {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let sizes = self.progress.borrow().sizes.clone();
        let usage = self.sweeps.borrow().usage.clone();
        let of_loop = sizes.iter().map(|size| (size.table, size.used, size.capacity));
        let of_programs = usage.iter().map(|usage| (usage.table, usage.used, usage.capacity));
        let tables: Vec<_> = of_loop.chain(of_programs).collect();
        page.gauges(
            "svc_table_entries",
            "Entries in use, by table. Flows have two records each. The tables that programs fill are counted every 5 to 30 \
             seconds.",
            tables.iter().map(|(table, used, _)| (labels(table), *used)),
        )?;
        page.gauges(
            "svc_table_capacity",
            "Entries that a table has room for now.",
            tables.iter().map(|(table, _, capacity)| (labels(table), *capacity)),
        )?;
        let evicted = self.sweeps.borrow().evicted.clone();
        let evicting = Table::ALL.into_iter().filter_map(|table| Some((table.evicted_label()?, table)));
        page.counters(
            "svc_table_evictions",
            "Entries that the kernel evicted from a full table though they may have been in use, by table.",
            evicting.map(|(label, table)| {
                (labels(table.name()), evicted.get(label).copied().unwrap_or_default())
            }),
        )
    }
}

/// `flows (IPv4)` is the table `flows` of a family. A table of both families has none.
fn labels(table: &'static str) -> Labels<'static> {
    let (name, family) = match table.split_once(" (") {
        Some((name, family)) => (name, family.trim_end_matches(')')),
        None => (table, ""),
    };
    vec![("table", name.replace(' ', "_").into()), ("ip_family", family.into())]
}
