//! Runs sweeps: chooses the tables to read and reports the results. Its clock is a parameter, and it reaches the
//! kernel only through [`SweptTables`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use svc_common::abi::EntryCount;

use super::evictions::{Evictions, TablePass};
use super::live::{Live, LiveReport};
use super::pass::{Pass, Translated};
use super::schedule::{LastPass, is_due};
use super::sockets::EndedSockets;
use super::table::{Staleness, Table};
use crate::dataplane::usage::Usage;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::observe::ledger::Ledger;
use crate::reconcile::InForce;

/// The tables that programs fill: the kernel's, or a test's.
pub trait SweptTables {
    /// Entries that programs inserted and removed, in the order of `EntryTable`.
    fn counts(&mut self) -> anyhow::Result<Vec<EntryCount>>;
    /// Nonzero counters of the programs, by label.
    fn counters(&mut self) -> anyhow::Result<BTreeMap<String, u64>>;
    /// Reads a table once and removes old entries. Checks entries against `in_force` if it is given.
    fn sweep(&mut self, table: Table, in_force: Option<&InForce>) -> anyhow::Result<Pass>;
    /// Ends the UDP sockets among these.
    fn end_sockets(&mut self, stale: BTreeSet<Translated>) -> anyhow::Result<EndedSockets>;
}

/// Results of the sweeper since it started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepReport {
    /// Usage of the tables.
    pub usage: Vec<Usage>,
    /// Nonzero counters of the programs, by label.
    pub counters: BTreeMap<String, u64>,
    /// Nonzero numbers of entries that the kernel evicted, by label.
    pub evicted: BTreeMap<&'static str, u64>,
    /// Live flows.
    pub live: LiveReport,
    /// UDP flows removed because their endpoint was gone.
    pub udp_flows_removed: u64,
    /// Connected UDP sockets ended because their endpoint was gone.
    pub udp_sockets_ended: u64,
    /// Sockets that the kernel refused to end.
    pub udp_sockets_left: u64,
}

/// State of one table.
#[derive(Default)]
struct TableState {
    last: Option<LastPass>,
    capacity: u64,
    /// Entries removed since the start.
    swept: u64,
    evictions: Evictions,
    live: Live,
}

pub struct Sweep<T> {
    tables: T,
    ledger: Ledger,
    node: String,
    states: BTreeMap<Table, TableState>,
    report: SweepReport,
    /// The losses at the time of the last check of the tables.
    udp_losses: u64,
    affinity_losses: u64,
    /// Why the last sweep was not complete.
    failure: Option<String>,
}

impl<T: SweptTables> Sweep<T> {
    pub fn new(tables: T, ledger: Ledger, node: &str) -> Self {
        Self {
            tables,
            ledger,
            node: node.to_owned(),
            states: BTreeMap::new(),
            report: SweepReport::default(),
            udp_losses: 0,
            affinity_losses: 0,
            failure: None,
        }
    }

    /// A set in force has lost a member since the last check of the tables.
    pub const fn is_loss(&self, in_force: &InForce) -> bool {
        self.udp_losses != in_force.udp_losses || self.affinity_losses != in_force.affinity_losses
    }

    pub const fn report(&self) -> &SweepReport {
        &self.report
    }

    /// Reads every table that is due, once.
    pub fn run(&mut self, in_force: &InForce, now: Instant) {
        let mut failures = Vec::new();
        // A build without ENTRIES: tables are read as if they had changed.
        let before = self.tables.counts().unwrap_or_default();
        let (mut passes, mut stale_sockets) = (Vec::new(), None);
        let mut has_failed = [false; 2];
        for table in Table::ALL {
            let staleness = table.staleness();
            let is_loss = match staleness {
                Some(Staleness::Udp) => self.udp_losses != in_force.udp_losses,
                Some(Staleness::Affinity) => self.affinity_losses != in_force.affinity_losses,
                None => false,
            };
            let last = self.states.get(&table).and_then(|state| state.last.as_ref());
            let counts = count_of(table, &before);
            if !is_due(table, last, counts, is_loss, now) {
                continue;
            }
            let started = Instant::now();
            match self.tables.sweep(table, is_loss.then_some(in_force)) {
                Ok(mut pass) => {
                    if is_loss && matches!(table, Table::Sockets4 | Table::Sockets6) {
                        stale_sockets.get_or_insert_with(BTreeSet::new).append(&mut pass.stale_sockets);
                    }
                    let took = started.elapsed();
                    let (present, soonest) = (pass.present, pass.soonest);
                    let last = LastPass { began: now, took, present, soonest, counts };
                    self.states.entry(table).or_default().last = Some(last);
                    passes.push((table, pass));
                }
                Err(error) => {
                    failures.push(format!("{}: {error:#}", table.map()));
                    let failed = match staleness {
                        Some(Staleness::Affinity) => 1,
                        Some(Staleness::Udp) | None => 0,
                    };
                    has_failed[failed] |= is_loss;
                }
            }
        }
        if !passes.is_empty() {
            let after = self.tables.counts().unwrap_or_default();
            passes.into_iter().for_each(|(table, pass)| self.account(table, pass, &before, &after));
        }
        if let Some(stale) = stale_sockets {
            self.end_sockets(stale, &mut failures);
        }
        let [udp_failed, affinity_failed] = has_failed;
        if !udp_failed {
            self.udp_losses = in_force.udp_losses;
        }
        if !affinity_failed {
            self.affinity_losses = in_force.affinity_losses;
        }
        if let Ok(counters) = self.tables.counters() {
            self.report.counters = counters;
        }
        self.note_failures(&failures);
    }

    fn account(&mut self, table: Table, pass: Pass, before: &[EntryCount], after: &[EntryCount]) {
        let state = self.states.entry(table).or_default();
        state.capacity = pass.info.capacity;
        state.swept += pass.removed;
        self.report.udp_flows_removed += pass.stale;
        if let (Some(before), Some(after)) = (count_of(table, before), count_of(table, after)) {
            let (map_id, swept, present) = (pass.info.id, state.swept, pass.present);
            state.evictions.count(&TablePass { map_id, before, after, swept, present });
        }
        if let Some(label) = table.evicted_label()
            && state.evictions.total() != 0
        {
            self.report.evicted.insert(label, state.evictions.total());
        }
        let usage = |(table, state): (&Table, &TableState)| {
            let (shown_as, last) = (table.shown_as()?, state.last?);
            Some(Usage { table: shown_as, used: last.present, capacity: state.capacity })
        };
        if let Some(families) = table.has_flows().then_some(Table::FLOWS) {
            state.live = pass.live;
            let none = Live::default();
            let of = |table: &Table| self.states.get(table).map_or(&none, |state| &state.live);
            self.report.live = LiveReport::of(families.each_ref().map(|tables| tables.each_ref().map(of)));
        }
        self.report.usage = self.states.iter().filter_map(usage).collect();
    }

    /// Ends connected UDP sockets of endpoints that are gone (SEM-130). A refusal by the kernel raises a complaint,
    /// which stays until a socket could be ended.
    fn end_sockets(&mut self, stale: BTreeSet<Translated>, failures: &mut Vec<String>) {
        match self.tables.end_sockets(stale) {
            Ok(outcome) => {
                self.report.udp_sockets_ended += outcome.ended;
                self.report.udp_sockets_left += outcome.left;
                let complaint = |reason| Complaint::new(Kind::Host, self.subject(), "UDP sockets", reason);
                if outcome.refusal.is_some() || outcome.ended != 0 {
                    self.ledger.set(Origin::Sockets, outcome.refusal.into_iter().map(complaint).collect());
                }
            }
            Err(error) => failures.push(format!("ending UDP sockets: {error:#}")),
        }
    }

    fn note_failures(&mut self, failures: &[String]) {
        let failure = (!failures.is_empty()).then(|| failures.join("; "));
        if failure != self.failure {
            match &failure {
                Some(text) => tracing::warn!("cannot sweep tables, will retry: {text}"),
                None => tracing::info!("sweeping tables works again"),
            }
            self.failure = failure;
        }
    }

    fn subject(&self) -> String {
        format!("Node {}", self.node)
    }
}

fn count_of(table: Table, counts: &[EntryCount]) -> Option<EntryCount> {
    counts.get(table.counted_as()? as usize).copied()
}

#[cfg(test)]
mod tests;
