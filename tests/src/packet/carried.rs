//! The flow tables that are being replaced, and the word from which programs read how to use them.

use anyhow::{Context as _, Result};
use aya::EbpfLoader;
use aya::maps::{Array, MapData};
use svc_common::abi::{FlowKey, FlowRecord, Migration, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_ctl::dataplane::pins::Pins;

use super::flow::{Line, decode, encode};
use super::place::Family;
use super::table::{Table, clear, open};

/// Records of each table.
const CAPACITY: u32 = 1_024;

type Flows<A> = Table<FlowKey<A>, FlowRecord<A>>;

/// The tables of both families.
pub struct Carried {
    v4: Flows<AddrV4>,
    v6: Flows<AddrV6>,
    migration: Array<MapData, Migration>,
}

/// Makes and pins the tables before the programs are loaded: those of the object have room for only one record.
pub fn make(object: &[u8], pins: &Pins) -> Result<()> {
    let mut loader = EbpfLoader::new();
    for name in [names::FLOWS4, names::FLOWS6] {
        loader.map_max_entries(name, 1);
    }
    for name in [names::CARRIED4, names::CARRIED6] {
        loader.map_max_entries(name, CAPACITY);
    }
    let ebpf = loader.load(object).context("the flow tables that are being replaced")?;
    for name in [names::CARRIED4, names::CARRIED6] {
        ebpf.map(name).with_context(|| format!("no map {name}"))?.pin(pins.map(name))?;
    }
    Ok(())
}

impl Carried {
    pub fn open(pins: &Pins) -> Result<Self> {
        let migration = Array::try_from(open(pins, names::MIGRATION)?)?;
        Ok(Self {
            v4: open(pins, names::CARRIED4)?.try_into()?,
            v6: open(pins, names::CARRIED6)?.try_into()?,
            migration,
        })
    }

    /// Empties the tables and sets how they are used.
    pub fn reset(&mut self, migration: Migration) -> Result<()> {
        clear(&mut self.v4)?;
        clear(&mut self.v6)?;
        Ok(self.migration.set(0, migration, 0)?)
    }

    pub fn insert(&mut self, family: Family, line: &Line) -> Result<()> {
        match family {
            Family::V4 => {
                let (key, record) = encode::<AddrV4>(line);
                Ok(self.v4.insert(key, record, 0)?)
            }
            Family::V6 => {
                let (key, record) = encode::<AddrV6>(line);
                Ok(self.v6.insert(key, record, 0)?)
            }
        }
    }

    pub fn flows(&self, family: Family) -> Result<Vec<Line>> {
        match family {
            Family::V4 => self.v4.iter().map(|entry| line(entry?)).collect(),
            Family::V6 => self.v6.iter().map(|entry| line(entry?)).collect(),
        }
    }
}

fn line<A: super::flow::LineCodec>((key, record): (FlowKey<A>, FlowRecord<A>)) -> Result<Line> {
    decode(&key, &record).map_err(|err| anyhow::anyhow!(err))
}
