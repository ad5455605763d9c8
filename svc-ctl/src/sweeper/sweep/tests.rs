//! Sweeps over tables that the test fills.

use std::time::Duration;

use svc_common::abi::EntryTable;

use super::*;
use crate::dataplane::entries::TableInfo;

/// Tables that have only numbers of entries.
#[derive(Default)]
struct Numbers {
    counts: Vec<EntryCount>,
    present: BTreeMap<Table, u64>,
    /// Entries that each pass removes from the flow tables.
    expire: u64,
    stale_sockets: BTreeSet<Translated>,
    refusal: Option<String>,
    broken: Option<Table>,
    /// Every table that was read, and whether it was checked against the tables in force.
    read: Vec<(Table, bool)>,
}

impl SweptTables for Numbers {
    fn counts(&mut self) -> anyhow::Result<Vec<EntryCount>> {
        Ok(self.counts.clone())
    }

    fn counters(&mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        Ok(BTreeMap::new())
    }

    fn sweep(&mut self, table: Table, in_force: Option<&InForce>) -> anyhow::Result<Pass> {
        anyhow::ensure!(self.broken != Some(table), "it is broken");
        self.read.push((table, in_force.is_some()));
        let present = self.present.entry(table).or_default();
        let removed = if table == Table::Flows4 { self.expire.min(*present) } else { 0 };
        *present -= removed;
        let stale_sockets = match (table, in_force) {
            (Table::Sockets4, Some(_)) => self.stale_sockets.clone(),
            _ => BTreeSet::new(),
        };
        let info = TableInfo { id: 1, capacity: 100 };
        Ok(Pass { info, present: *present, removed, stale_sockets, ..Pass::default() })
    }

    fn end_sockets(&mut self, stale: BTreeSet<Translated>) -> anyhow::Result<EndedSockets> {
        let refusal = self.refusal.clone();
        let count = stale.len() as u64;
        let (ended, left) = if refusal.is_some() { (0, count) } else { (count, 0) };
        Ok(EndedSockets { ended, left, refusal })
    }
}

fn sweep() -> Sweep<Numbers> {
    let tables =
        Numbers { counts: vec![EntryCount::default(); EntryTable::COUNT as usize], ..Numbers::default() };
    Sweep::new(tables, Ledger::default(), "n1")
}

fn losses(udp_losses: u64, affinity_losses: u64) -> InForce {
    InForce { udp_losses, affinity_losses, ..InForce::default() }
}

/// The tables that a sweep reads.
fn read(sweep: &mut Sweep<Numbers>, in_force: &InForce, now: Instant) -> Vec<(Table, bool)> {
    sweep.run(in_force, now);
    std::mem::take(&mut sweep.tables.read)
}

#[test]
fn an_idle_node_reads_only_the_table_of_interfaces() {
    let (mut sweep, start) = (sweep(), Instant::now());
    assert_eq!(read(&mut sweep, &losses(0, 0), start).len(), Table::ALL.len());
    let later = |s| start + Duration::from_secs(s);
    assert_eq!(read(&mut sweep, &losses(0, 0), later(5)), []);
    assert_eq!(read(&mut sweep, &losses(1, 1), later(10)), [], "nothing can be stale in empty tables");
    assert_eq!(read(&mut sweep, &losses(1, 1), later(30)), [(Table::Interfaces, false)]);
}

#[test]
fn after_a_loss_each_affected_table_is_checked_once() {
    let (mut sweep, start) = (sweep(), Instant::now());
    for table in [Table::Flows4, Table::Sockets6, Table::Affinity4, Table::Fragments4] {
        sweep.tables.present.insert(table, 5);
    }
    read(&mut sweep, &losses(0, 0), start);
    assert!(sweep.is_loss(&losses(1, 0)));
    assert_eq!(read(&mut sweep, &losses(1, 0), start), [(Table::Flows4, true), (Table::Sockets6, true)]);
    assert!(!sweep.is_loss(&losses(1, 0)));
    assert_eq!(read(&mut sweep, &losses(1, 0), start), []);
    assert_eq!(read(&mut sweep, &losses(1, 2), start), [(Table::Affinity4, true)]);
}

#[test]
fn a_failed_check_after_a_loss_is_repeated() {
    let (mut sweep, start) = (sweep(), Instant::now());
    sweep.tables.present.insert(Table::Affinity6, 5);
    read(&mut sweep, &losses(0, 0), start);
    sweep.tables.broken = Some(Table::Affinity6);
    assert_eq!(read(&mut sweep, &losses(0, 1), start), []);
    assert!(sweep.is_loss(&losses(0, 1)) && sweep.failure.is_some());
    sweep.tables.broken = None;
    assert_eq!(read(&mut sweep, &losses(0, 1), start), [(Table::Affinity6, true)]);
    assert!(!sweep.is_loss(&losses(0, 1)) && sweep.failure.is_none());
}

#[test]
fn use_and_evictions_are_reported() {
    let (mut sweep, start) = (sweep(), Instant::now());
    sweep.run(&losses(0, 0), start);
    sweep.tables.counts[0] = EntryCount { made: 150, removed: 20 };
    sweep.tables.present.insert(Table::Flows4, 100);
    sweep.tables.expire = 10;
    sweep.run(&losses(0, 0), start + Duration::from_secs(5));
    assert_eq!(sweep.report.evicted, [("flow_evicted_v4", 30)].into());
    let flows = sweep.report.usage.iter().find(|usage| usage.table == "flows (IPv4)");
    assert_eq!(flows.map(|usage| (usage.used, usage.capacity)), Some((90, 100)));
    assert!(sweep.report.usage.iter().all(|usage| !usage.table.contains("fragments")));
}

#[test]
fn sem_130_a_refusal_to_end_sockets_raises_a_complaint_until_one_is_ended() {
    let (mut sweep, start) = (sweep(), Instant::now());
    sweep.tables.present.insert(Table::Sockets4, 5);
    sweep.tables.stale_sockets = [(7, "10.0.0.1:53".parse().unwrap())].into();
    sweep.tables.refusal = Some("CONFIG_INET_DIAG_DESTROY".to_owned());
    sweep.run(&losses(1, 0), start);
    assert_eq!((sweep.report.udp_sockets_ended, sweep.report.udp_sockets_left), (0, 1));
    let complaints = sweep.ledger.get(&Origin::Sockets);
    assert_eq!(
        complaints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["Node n1: UDP sockets: CONFIG_INET_DIAG_DESTROY"]
    );
    sweep.tables.refusal = None;
    sweep.run(&losses(2, 0), start);
    assert_eq!((sweep.report.udp_sockets_ended, sweep.report.udp_sockets_left), (1, 1));
    assert_eq!(sweep.ledger.get(&Origin::Sockets), []);
}
