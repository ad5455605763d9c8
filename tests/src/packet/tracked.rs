//! Connections in rows that conntrack translates, and that are older than their frontend.

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use svc_common::abi::{FlowKey, MapAddr, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_ctl::dataplane::pins::Pins;

use super::flow::{Line, encode};
use super::kernel;
use super::place::Family;

type Table<A> = HashMap<MapData, FlowKey<A>, u32>;

/// The tables of both families.
pub struct Tables {
    v4: Table<AddrV4>,
    v6: Table<AddrV6>,
}

impl Tables {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { v4: open(pins, names::BYPASS4)?, v6: open(pins, names::BYPASS6)? })
    }

    pub fn clear(&mut self) -> Result<()> {
        clear(&mut self.v4)?;
        clear(&mut self.v6)
    }

    /// As the daemon stores it, by the packets of the record's key.
    pub fn insert(&mut self, family: Family, line: &Line) -> Result<()> {
        let now = kernel::now();
        match family {
            Family::V4 => Ok(self.v4.insert(encode::<AddrV4>(line).0, now, 0)?),
            Family::V6 => Ok(self.v6.insert(encode::<AddrV6>(line).0, now, 0)?),
        }
    }
}

fn open<A: MapAddr>(pins: &Pins, name: &str) -> Result<Table<A>> {
    let data = MapData::from_pin(pins.map(name)).with_context(|| format!("opening {name}"))?;
    Ok(HashMap::try_from(Map::from_map_data(data)?)?)
}

fn clear<A: MapAddr>(table: &mut Table<A>) -> Result<()> {
    let keys: Result<Vec<_>, _> = table.keys().collect();
    Ok(keys?.iter().try_for_each(|key| table.remove(key))?)
}
