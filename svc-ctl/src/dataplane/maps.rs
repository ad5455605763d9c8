//! The maps that the daemon reads and writes, typed.

use std::os::fd::OwnedFd;

use anyhow::Context as _;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6};

use super::map_set::MapSet;
use super::mmap::MappedArray;
use super::pins::Pins;
use super::presence::Presence;
use super::shapes::TrieKey;
use super::sys::EntryMap;

/// Maps of one family.
pub struct FamilyMaps<A: MapAddr> {
    pub frontends: HashMap<MapData, FrontendKey<A>, FrontendValue>,
    pub backends: MappedArray<BackendValue<A>>,
    pub addresses: HashMap<MapData, A, AddressFlags>,
    pub prefixes: LpmTrie<MapData, PrefixKey<A>, u8>,
    pub flows: HashMap<MapData, FlowKey<A>, FlowRecord<A>>,
    pub unassured: HashMap<MapData, FlowKey<A>, FlowRecord<A>>,
    /// The same maps, for writes in batches.
    pub(super) batches: FamilyBatches<A>,
}

/// Maps of one family that are written in batches.
pub(super) struct FamilyBatches<A: MapAddr> {
    pub frontends: EntryMap<FrontendKey<A>, FrontendValue>,
    pub addresses: EntryMap<A, AddressFlags>,
    pub prefixes: EntryMap<TrieKey<A>, u8>,
}

/// Every map that the daemon reads or writes.
pub struct Maps {
    pub v4: FamilyMaps<AddrV4>,
    pub v6: FamilyMaps<AddrV6>,
    pub selection: MappedArray<u32>,
    pub maglev: MappedArray<MaglevPage>,
    pub ifaces: HashMap<MapData, u32, Iface>,
    pub counters: PerCpuArray<MapData, u64>,
    pub services: PerCpuArray<MapData, ServiceCounters>,
    pub presence: Presence,
    /// The same maps, for questions about the maps themselves.
    pub(super) set: MapSet,
}

/// Opens a pinned map as its type.
pub(super) fn open<T: TryFrom<Map>>(pins: &Pins, name: &str) -> anyhow::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let path = pins.map(name);
    let data = MapData::from_pin(&path).with_context(|| format!("opening {}", path.display()))?;
    typed(data, &path.display().to_string())
}

fn typed<T: TryFrom<Map>>(data: MapData, name: &str) -> anyhow::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let map = Map::from_map_data(data).with_context(|| format!("opening {name}"))?;
    T::try_from(map).with_context(|| format!("{name} is another kind of map"))
}

impl Maps {
    /// Opens the pins.
    pub fn open(pins: &Pins) -> anyhow::Result<Self> {
        Self::of(&MapSet::open(pins)?)
    }

    /// The maps of a set.
    pub fn of(set: &MapSet) -> anyhow::Result<Self> {
        let [v4, v6] = [
            [
                names::FRONTENDS4,
                names::BACKENDS4,
                names::ADDRESSES4,
                names::PREFIXES4,
                names::FLOWS4,
                names::UNASSURED4,
            ],
            [
                names::FRONTENDS6,
                names::BACKENDS6,
                names::ADDRESSES6,
                names::PREFIXES6,
                names::FLOWS6,
                names::UNASSURED6,
            ],
        ];
        Ok(Self {
            v4: family(set, v4)?,
            v6: family(set, v6)?,
            selection: array(set, names::SELECTION)?,
            maglev: array(set, names::MAGLEV)?,
            ifaces: by_aya(set, names::IFACES)?,
            counters: by_aya(set, names::COUNTERS)?,
            services: by_aya(set, names::SERVICES)?,
            presence: presence(set)?,
            set: set.clone(),
        })
    }

    /// Sums a counter over CPUs.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |v| v.iter().sum())
    }

    /// Sums a service's counters over CPUs.
    pub fn service(&self, id: ServicePortId) -> ServiceCounters {
        sum(&self.services, id)
    }
}

fn family<A: MapAddr>(set: &MapSet, names: [&str; 6]) -> anyhow::Result<FamilyMaps<A>> {
    let [frontends, backends, addresses, prefixes, flows, unassured] = names;
    Ok(FamilyMaps {
        frontends: by_aya(set, frontends)?,
        backends: array(set, backends)?,
        addresses: by_aya(set, addresses)?,
        prefixes: by_aya(set, prefixes)?,
        flows: by_aya(set, flows)?,
        unassured: by_aya(set, unassured)?,
        batches: FamilyBatches {
            frontends: entries(set, frontends)?,
            addresses: entries(set, addresses)?,
            prefixes: entries(set, prefixes)?,
        },
    })
}

fn descriptor(set: &MapSet, name: &str) -> anyhow::Result<OwnedFd> {
    Ok(set.fd(name)?.try_clone_to_owned()?)
}

/// A map of a set as aya's type.
pub fn by_aya<T: TryFrom<Map>>(set: &MapSet, name: &str) -> anyhow::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    typed(MapData::from_fd(descriptor(set, name)?).with_context(|| format!("opening {name}"))?, name)
}

fn array<T: aya::Pod>(set: &MapSet, name: &str) -> anyhow::Result<MappedArray<T>> {
    MappedArray::new(descriptor(set, name)?)?.with_context(|| format!("{name} is another kind of map"))
}

/// The presence filter, by words.
fn presence(set: &MapSet) -> anyhow::Result<Presence> {
    let words = MappedArray::words_of_one(descriptor(set, names::PRESENCE)?)?;
    Ok(Presence::new(words.context("PRESENCE is another kind of map")?))
}

pub(super) fn entries<K: aya::Pod, V: aya::Pod>(set: &MapSet, name: &str) -> anyhow::Result<EntryMap<K, V>> {
    EntryMap::new(descriptor(set, name)?)?.with_context(|| format!("{name} is another kind of map"))
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
