//! Reads the programs' counters of single service ports.

use aya::maps::{MapData, PerCpuArray};
use svc_common::abi::{ServiceCounters, ServicePortId, names};

use super::maps::open;
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

/// The sum over all CPUs; zeros if the map has no such entry.
pub(super) fn sum(
    map: &PerCpuArray<impl std::borrow::Borrow<MapData>, ServiceCounters>,
    id: ServicePortId,
) -> ServiceCounters {
    let values = map.get(&id.0, 0);
    values.iter().flat_map(|cpus| cpus.iter()).fold(ServiceCounters::default(), |sum, cpu| ServiceCounters {
        flows: sum.flows + cpu.flows,
        packets: sum.packets + cpu.packets,
        bytes: sum.bytes + cpu.bytes,
    })
}
