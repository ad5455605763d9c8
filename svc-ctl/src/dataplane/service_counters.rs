//! Reads the programs' counters of single service ports.

use aya::maps::{MapData, PerCpuArray};
use svc_common::abi::{ServiceCounters, ServicePortId, names};

use super::maps::{open, sum};
use super::pins::Pins;

/// The pinned map of the counters.
pub struct ServiceMap(PerCpuArray<MapData, ServiceCounters>);

impl ServiceMap {
    pub fn open(pins: &Pins) -> anyhow::Result<Self> {
        Ok(Self(open(pins, names::SERVICES)?))
    }

    /// The sum over all CPUs; zeros if the map has no such entry.
    pub fn get(&self, id: ServicePortId) -> ServiceCounters {
        sum(&self.0, id)
    }
}
