//! Checks the programs' counts for evicting tables: entries inserted and removed. In every row the difference equals
//! the growth of the tables, because rows are too small for an eviction.

use anyhow::{Result, ensure};
use aya::maps::{HashMap, MapData, PerCpuArray};
use svc_common::abi::{EntryCount, EntryTable, FragmentKey, FragmentPorts, MapAddr, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_ctl::dataplane::pins::Pins;

use super::place::Family;
use super::table::open;

/// The counts, and the tables that no other part of the lab reads.
pub struct Entries {
    counts: PerCpuArray<MapData, EntryCount>,
    v4: HashMap<MapData, FragmentKey<AddrV4>, FragmentPorts>,
    v6: HashMap<MapData, FragmentKey<AddrV6>, FragmentPorts>,
}

/// Counts and numbers of entries of one family at one moment.
#[derive(Clone, Copy, Debug)]
pub struct EntryTotals {
    flows: (EntryCount, usize),
    affinity: (EntryCount, usize),
    fragments: (EntryCount, usize),
}

impl Entries {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            counts: open(pins, names::ENTRIES)?.try_into()?,
            v4: open(pins, names::FRAGMENTS4)?.try_into()?,
            v6: open(pins, names::FRAGMENTS6)?.try_into()?,
        })
    }

    /// The entry_totals, given the numbers of flow records and session affinity entries.
    pub fn entry_totals(&self, family: Family, flows: usize, affinity: usize) -> Result<EntryTotals> {
        use EntryTable::*;
        let (of_flows, of_affinity, of_fragments, fragments) = match family {
            Family::V4 => ([Flows4, Unassured4], Affinity4, Fragments4, present(&self.v4)?),
            Family::V6 => ([Flows6, Unassured6], Affinity6, Fragments6, present(&self.v6)?),
        };
        Ok(EntryTotals {
            flows: (self.count(&of_flows)?, flows),
            affinity: (self.count(&[of_affinity])?, affinity),
            fragments: (self.count(&[of_fragments])?, fragments),
        })
    }

    /// The sum over these tables.
    fn count(&self, tables: &[EntryTable]) -> Result<EntryCount> {
        let mut sum = EntryCount::default();
        for table in tables {
            for count in self.counts.get(&(*table as u32), 0)?.iter() {
                sum.made += count.made;
                sum.removed += count.removed;
            }
        }
        Ok(sum)
    }
}

impl EntryTotals {
    /// The counts match the tables' growth. `flows` are the expected inserts and removals of flow records, if the row
    /// has them.
    pub fn check_since(&self, before: &Self, flows: Option<(u64, u64)>) -> Result<()> {
        let tables = [
            ("flows", self.flows, before.flows),
            ("affinity", self.affinity, before.affinity),
            ("fragments", self.fragments, before.fragments),
        ];
        for (name, (now, present), (then, was_present)) in tables {
            let (made, removed) = (now.made - then.made, now.removed - then.removed);
            let gained = present as i128 - was_present as i128;
            ensure!(
                i128::from(made) - i128::from(removed) == gained,
                "{name}: {made} made, {removed} removed, but {gained} more than before"
            );
            if let (Some(want), "flows") = (flows, name) {
                ensure!(
                    want == (made, removed),
                    "flow records made and removed\n want {want:?}\n got  {:?}",
                    (made, removed)
                );
            }
        }
        Ok(())
    }
}

fn present<A: MapAddr>(table: &HashMap<MapData, FragmentKey<A>, FragmentPorts>) -> Result<usize> {
    Ok(table.keys().collect::<Result<Vec<_>, _>>()?.len())
}
