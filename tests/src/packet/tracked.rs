//! Connections in rows that conntrack translates, and that are older than their frontend.

use anyhow::Result;
use svc_common::abi::{FlowKey, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_ctl::dataplane::pins::Pins;

use super::flow::{Line, encode};
use super::kernel;
use super::place::Family;
use super::table::{Table, clear, open};

/// The tables of both families.
pub struct Tables {
    v4: Table<FlowKey<AddrV4>, u32>,
    v6: Table<FlowKey<AddrV6>, u32>,
}

impl Tables {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { v4: open(pins, names::BYPASS4)?.try_into()?, v6: open(pins, names::BYPASS6)?.try_into()? })
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
