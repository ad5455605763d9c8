//! The pinned maps, typed.

use std::collections::BTreeMap;

use anyhow::Context as _;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6};

use super::pins::Pins;

/// Maps of one family.
pub struct FamilyMaps<A: MapAddr> {
    pub frontends: HashMap<MapData, FrontendKey<A>, FrontendValue>,
    pub backends: Array<MapData, BackendValue<A>>,
    pub addresses: HashMap<MapData, A, AddressFlags>,
    pub prefixes: LpmTrie<MapData, PrefixKey<A>, u8>,
    pub flows: HashMap<MapData, FlowKey<A>, FlowRecord<A>>,
}

/// Every map that the daemon reads or writes.
pub struct Maps {
    pub v4: FamilyMaps<AddrV4>,
    pub v6: FamilyMaps<AddrV6>,
    pub selection: Array<MapData, u32>,
    pub ifaces: HashMap<MapData, u32, Iface>,
    pub counters: PerCpuArray<MapData, u64>,
    pub services: PerCpuArray<MapData, ServiceCounters>,
}

/// Opens a pinned map as what it is.
pub(super) fn open<T: TryFrom<Map>>(pins: &Pins, name: &str) -> anyhow::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let path = pins.map(name);
    let data = MapData::from_pin(&path).with_context(|| format!("opening {}", path.display()))?;
    let map = Map::from_map_data(data).with_context(|| format!("opening {}", path.display()))?;
    T::try_from(map).with_context(|| format!("{} is another kind of map", path.display()))
}

impl Maps {
    /// Opens the pins.
    pub fn open(pins: &Pins) -> anyhow::Result<Self> {
        Ok(Self {
            v4: FamilyMaps {
                frontends: open(pins, names::FRONTENDS4)?,
                backends: open(pins, names::BACKENDS4)?,
                addresses: open(pins, names::ADDRESSES4)?,
                prefixes: open(pins, names::PREFIXES4)?,
                flows: open(pins, names::FLOWS4)?,
            },
            v6: FamilyMaps {
                frontends: open(pins, names::FRONTENDS6)?,
                backends: open(pins, names::BACKENDS6)?,
                addresses: open(pins, names::ADDRESSES6)?,
                prefixes: open(pins, names::PREFIXES6)?,
                flows: open(pins, names::FLOWS6)?,
            },
            selection: open(pins, names::SELECTION)?,
            ifaces: open(pins, names::IFACES)?,
            counters: open(pins, names::COUNTERS)?,
            services: open(pins, names::SERVICES)?,
        })
    }

    /// Sums a counter over CPUs.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |v| v.iter().sum())
    }

    /// Every counter that is not zero, by label.
    pub fn nonzero_counters(&self) -> BTreeMap<String, u64> {
        let all = Counter::ALL.iter().map(|c| (c.label().to_owned(), self.counter(*c)));
        all.filter(|(_, value)| *value != 0).collect()
    }

    /// Sums a service's counters over CPUs.
    pub fn service(&self, id: ServiceId) -> ServiceCounters {
        let mut sum = ServiceCounters::default();
        if let Ok(values) = self.services.get(&id.0, 0) {
            for v in values.iter() {
                sum.flows += v.flows;
                sum.packets += v.packets;
                sum.bytes += v.bytes;
            }
        }
        sum
    }
}
