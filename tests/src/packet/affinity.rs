//! Session affinity in rows: the backend of a client, and its remaining time.

use std::net::IpAddr;

use anyhow::Result;
use svc_common::abi::{AffinityKey, AffinityValue, BackendId, MapAddr, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_ctl::dataplane::clock::coarse_ns;
use svc_ctl::dataplane::pins::Pins;

use super::flow::{LineCodec, SERVICE};
use super::place::{self, Family};
use super::table::{Table, clear, open};

/// A unit of an entry's expiry in nanoseconds of the kernel's clock, as a power of two: 67 ms. It is spelled out here, so that
/// timeouts in units are timeouts in seconds, too.
const AFFINITY_SHIFT: u32 = 26;

/// A session affinity entry that expires in that many seconds; a row takes less than five.
#[derive(Clone, Copy, Debug)]
pub struct AffinityEntry {
    pub client: &'static str,
    /// `HOST:PORT`; need not be a backend of the row's services.
    pub backend: &'static str,
    pub seconds: u32,
}

pub fn affinity_entry(client: &'static str, backend: &'static str, seconds: u32) -> AffinityEntry {
    AffinityEntry { client, backend, seconds }
}

impl AffinityEntry {
    pub fn to_text(&self) -> String {
        to_text(self.client, self.backend, self.seconds)
    }
}

fn to_text(client: &str, backend: &str, seconds: u32) -> String {
    format!("{client} stays with {backend} for about {} s", (seconds + 5) / 10 * 10)
}

/// The tables of both families.
pub struct Tables {
    v4: AffinityTable<AddrV4>,
    v6: AffinityTable<AddrV6>,
}

type AffinityTable<A> = Table<AffinityKey<A>, AffinityValue>;

impl Tables {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            v4: open(pins, names::AFFINITY4)?.try_into()?,
            v6: open(pins, names::AFFINITY6)?.try_into()?,
        })
    }

    pub fn clear(&mut self) -> Result<()> {
        clear(&mut self.v4)?;
        clear(&mut self.v6)
    }

    pub fn insert(&mut self, entry: &AffinityEntry, backend: BackendId, family: Family) -> Result<()> {
        let until = now().wrapping_add(units(entry.seconds));
        let value = AffinityValue { backend, until };
        let client = place::address(entry.client, family);
        match family {
            Family::V4 => Ok(self.v4.insert(key::<AddrV4>(client), value, 0)?),
            Family::V6 => Ok(self.v6.insert(key::<AddrV6>(client), value, 0)?),
        }
    }

    /// Makes every entry expire that many units earlier.
    pub fn age(&mut self, units: u32) -> Result<()> {
        age(&mut self.v4, units)?;
        age(&mut self.v6, units)
    }

    /// A family's entries as text; `name` names a backend.
    pub fn to_text(&self, family: Family, name: &dyn Fn(BackendId) -> String) -> Result<Vec<String>> {
        match family {
            Family::V4 => lines(&self.v4, name),
            Family::V6 => lines(&self.v6, name),
        }
    }
}

fn now() -> u32 {
    (coarse_ns() >> AFFINITY_SHIFT) as u32
}

/// Seconds in units of an entry's expiry.
pub fn units(seconds: u32) -> u32 {
    ((u64::from(seconds) * 1_000_000_000) >> AFFINITY_SHIFT) as u32
}

fn key<A: LineCodec>(client: IpAddr) -> AffinityKey<A> {
    AffinityKey { service: SERVICE, netns: [0; 2], addr: A::from_ip(client) }
}

fn age<A: MapAddr>(table: &mut AffinityTable<A>, units: u32) -> Result<()> {
    let entries: Result<Vec<_>, _> = table.iter().collect();
    for (key, value) in entries? {
        table.insert(key, AffinityValue { until: value.until.wrapping_sub(units), ..value }, 0)?;
    }
    Ok(())
}

fn lines<A: LineCodec>(table: &AffinityTable<A>, name: &dyn Fn(BackendId) -> String) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in table.iter() {
        let (key, value) = entry?;
        let seconds = (u64::from(value.until.wrapping_sub(now())) << AFFINITY_SHIFT) / 1_000_000_000;
        let whose = if key.service == SERVICE && key.netns == [0; 2] { "" } else { " (another client!)" };
        let line = to_text(&place::name(key.addr.to_ip()), &name(value.backend), seconds as u32);
        lines.push(format!("{line}{whose}"));
    }
    Ok(lines)
}
