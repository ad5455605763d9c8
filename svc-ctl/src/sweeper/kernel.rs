//! The kernel's tables for a sweep. Maps are opened by their pins at each pass, because a grown table is another map
//! under the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use svc_common::abi::{Counter, EntryCount, EntryTable, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::family::{V4, V6};

use super::pass::{Pass, Translated};
use super::sockets::{EndedSockets, Sockets};
use super::sweep::SweptTables;
use super::table::Table;
use super::{affinity, flows, sockets};
use crate::dataplane::entries::{each_raw, per_cpu};
use crate::dataplane::pins::Pins;
use crate::node::netns;
use crate::reconcile::InForce;

pub struct KernelTables {
    pins: Pins,
    /// Directories with named network namespaces of pods.
    netns_dirs: Vec<PathBuf>,
    sockets: Sockets,
}

impl KernelTables {
    pub fn new(pins: Pins, netns_dirs: Vec<PathBuf>) -> Self {
        Self { pins, netns_dirs, sockets: Sockets::default() }
    }
}

impl SweptTables for KernelTables {
    fn counts(&mut self) -> anyhow::Result<Vec<EntryCount>> {
        let sum = |cpus: Vec<EntryCount>| {
            cpus.iter().fold(EntryCount::default(), |sum, cpu| EntryCount {
                made: sum.made.wrapping_add(cpu.made),
                removed: sum.removed.wrapping_add(cpu.removed),
            })
        };
        let entries = per_cpu(&self.pins, names::ENTRIES, EntryTable::COUNT)?;
        Ok(entries.into_iter().map(sum).collect())
    }

    fn counters(&mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        counters(&self.pins)
    }

    fn sweep(&mut self, table: Table, in_force: Option<&InForce>) -> anyhow::Result<Pass> {
        sweep_table(&self.pins, table, in_force)
    }

    fn end_sockets(&mut self, stale: BTreeSet<Translated>) -> anyhow::Result<EndedSockets> {
        let dirs = &self.netns_dirs;
        self.sockets.end(stale, || netns::all(dirs))
    }
}

/// Removes UDP flows and affinity entries of endpoints that are gone; returns the number of flows. Checks all
/// entries.
pub fn remove_stale(pins: &Pins, in_force: &InForce) -> anyhow::Result<u64> {
    use Table::{Affinity4, Affinity6, Flows4, Flows6, Unassured4, Unassured6};
    let tables = [Flows4, Flows6, Unassured4, Unassured6, Affinity4, Affinity6];
    tables.into_iter().try_fold(0, |flows, table| Ok(flows + sweep_table(pins, table, Some(in_force))?.stale))
}

/// Nonzero counters of the programs, by label.
pub fn counters(pins: &Pins) -> anyhow::Result<BTreeMap<String, u64>> {
    let values = per_cpu::<u64>(pins, names::COUNTERS, Counter::ALL.len() as u32)?;
    let sums = values.iter().map(|cpus| cpus.iter().sum::<u64>());
    let labels = Counter::ALL.iter().map(|counter| counter.label().to_owned());
    Ok(labels.zip(sums).filter(|(_, sum)| *sum != 0).collect())
}

/// One pass over one table. Checks its entries against `in_force` if it is given.
pub fn sweep_table(pins: &Pins, table: Table, in_force: Option<&InForce>) -> anyhow::Result<Pass> {
    let map = table.map();
    match table {
        Table::Flows4 | Table::Unassured4 => flows::sweep::<V4>(pins, map, in_force),
        Table::Flows6 | Table::Unassured6 => flows::sweep::<V6>(pins, map, in_force),
        Table::Sockets4 => sockets::sweep::<AddrV4>(pins, map, in_force),
        Table::Sockets6 => sockets::sweep::<AddrV6>(pins, map, in_force),
        Table::Affinity4 => affinity::sweep::<AddrV4>(pins, map, in_force),
        Table::Affinity6 => affinity::sweep::<AddrV6>(pins, map, in_force),
        Table::Fragments4 | Table::Fragments6 | Table::Bypass4 | Table::Bypass6 | Table::Interfaces => {
            let mut present = 0;
            let info = each_raw(pins, map, |_, _| present += 1)?;
            Ok(Pass { info, present, ..Pass::default() })
        }
    }
}
