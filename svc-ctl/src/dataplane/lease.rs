//! Shows the kernel programs whether the daemon runs.

use anyhow::Context as _;
use svc_common::abi::{Lease, names};

use super::flows::now;
use super::map_set::MapSet;
use super::maps::entries;
use super::sys::EntryMap;

/// Ticks (a little more than a second each) that the lease lasts. Longer than a busy machine keeps a thread waiting.
const LASTS: u32 = 4;

/// The table `LEASE`.
pub struct LeaseTable(EntryMap<u32, u32>);

impl LeaseTable {
    pub fn of(maps: &MapSet) -> anyhow::Result<Self> {
        Ok(Self(entries(maps, names::LEASE)?))
    }

    /// The daemon runs, and every hook has its program, for the next few seconds.
    pub fn renew(&self) -> anyhow::Result<()> {
        let now = now();
        self.write(Lease::Renewed, now)?;
        // 0 has a meaning of its own.
        self.write(Lease::Until, now.wrapping_add(LASTS).max(1))
    }

    /// A hook is without its program, or the daemon stops.
    pub fn end(&self) -> anyhow::Result<()> {
        self.write(Lease::Until, 0)
    }

    fn write(&self, entry: Lease, tick: u32) -> anyhow::Result<()> {
        self.0.insert(&(entry as u32), &tick, 0).context("writing LEASE")
    }
}
