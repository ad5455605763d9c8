//! The shape and layout of every pinned map, from the types of `svc_common::abi` and the requested sizes.

use svc_common::abi::layout::{Field, Layout};
use svc_common::abi::{names::*, *};
use svc_common::addr::{AddrV4, AddrV6};

use super::layout::TableLayout;
use super::sys::{MapKind, MapShape};
use crate::plan::capacity::Capacity;

/// `BPF_F_NO_PREALLOC`: a replaced value is freed after an RCU grace period, so readers never see it change.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// Tables that hold the plan, and nothing that programs write.
pub const PLANNED: [&str; 11] = [
    FRONTENDS4, FRONTENDS6, BACKENDS4, BACKENDS6, ADDRESSES4, ADDRESSES6, PREFIXES4, PREFIXES6, SELECTION,
    MAGLEV, PRESENCE,
];

/// Key of the prefix table in the kernel's layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct TrieKey<A> {
    pub bits: u32,
    pub key: PrefixKey<A>,
}

// SAFETY: two integers and an address of integers, none of which leaves padding.
unsafe impl<A: MapAddr> aya::Pod for TrieKey<A> {}

impl<A: MapAddr> Layout for TrieKey<A> {
    const FIELDS: &'static [Field<'static>] = &[
        Field { name: "bits", offset: 0, octets: 4 },
        Field { name: "key", offset: 4, octets: size_of::<PrefixKey<A>>() },
    ];
}

/// Number of entries of the maps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TableSizes {
    /// Entries of the tables that the plan fills.
    pub capacity: Capacity,
    /// Flow records per family.
    pub flows: u32,
}

impl TableSizes {
    /// The sizes of maps with that many entries.
    pub fn of(entries: impl Fn(&str) -> u32) -> Self {
        let both = |v4, v6| entries(v4).min(entries(v6));
        let capacity = Capacity {
            frontends: both(FRONTENDS4, FRONTENDS6),
            backends: both(BACKENDS4, BACKENDS6),
            selection: entries(SELECTION),
            maglev: entries(MAGLEV),
            services: entries(SERVICES),
            addresses: both(ADDRESSES4, ADDRESSES6),
            prefixes: both(PREFIXES4, PREFIXES6),
        };
        Self { capacity, flows: both(FLOWS4, FLOWS6) }
    }
}

impl Default for TableSizes {
    fn default() -> Self {
        Self { capacity: Capacity::default(), flows: limits::FLOWS }
    }
}

/// The maps of a family with addresses `A`; `names` are in the order of `FAMILY`.
fn family<A: MapAddr + Layout>(names: [&'static str; 10], sizes: &TableSizes) -> [Map; 10] {
    use MapKind::{Array, Hash, LpmTrie, LruHash};
    let capacity = &sizes.capacity;
    let [frontends, backends, flows, unassured, addresses, prefixes, sockets, affinity, fragments, bypass] =
        names;
    [
        shape::<FrontendKey<A>, FrontendValue>(frontends, Hash, capacity.frontends, NO_PREALLOC),
        shape::<u32, BackendValue<A>>(backends, Array, capacity.backends, MMAPABLE),
        shape::<FlowKey<A>, FlowRecord<A>>(flows, LruHash, sizes.flows, 0),
        shape::<FlowKey<A>, FlowRecord<A>>(unassured, LruHash, limits::UNASSURED, 0),
        shape::<A, AddressFlags>(addresses, Hash, capacity.addresses, NO_PREALLOC),
        shape::<TrieKey<A>, u8>(prefixes, LpmTrie, capacity.prefixes, NO_PREALLOC),
        shape::<SockKey<A>, SockValue<A>>(sockets, LruHash, limits::SOCKETS, 0),
        shape::<AffinityKey<A>, AffinityValue>(affinity, LruHash, limits::AFFINITY, 0),
        shape::<FragmentKey<A>, FragmentPorts>(fragments, LruHash, limits::FRAGMENTS, 0),
        shape::<FlowKey<A>, u32>(bypass, LruHash, limits::BYPASS, 0),
    ]
}

/// Every pinned map, with these numbers of entries.
pub fn map_shapes(sizes: &TableSizes) -> Vec<MapShape> {
    maps(sizes).into_iter().map(|map| map.shape).collect()
}

/// The layouts of pinned maps of these names.
pub fn layouts(names: &[&str]) -> Vec<TableLayout<'static>> {
    let all = maps(&TableSizes::default()).into_iter().map(|map| map.layout);
    all.filter(|layout| names.contains(&layout.name)).collect()
}

/// A pinned map.
struct Map {
    shape: MapShape,
    layout: TableLayout<'static>,
}

fn maps(sizes: &TableSizes) -> Vec<Map> {
    use MapKind::{Array, Hash, LruHash, PerCpuArray};
    let capacity = &sizes.capacity;
    let v4 = [
        FRONTENDS4, BACKENDS4, FLOWS4, UNASSURED4, ADDRESSES4, PREFIXES4, SOCKETS4, AFFINITY4, FRAGMENTS4,
        BYPASS4,
    ];
    let v6 = [
        FRONTENDS6, BACKENDS6, FLOWS6, UNASSURED6, ADDRESSES6, PREFIXES6, SOCKETS6, AFFINITY6, FRAGMENTS6,
        BYPASS6,
    ];
    let mut shapes = Vec::from(family::<AddrV4>(v4, sizes));
    shapes.extend(family::<AddrV6>(v6, sizes));
    shapes.extend([
        shape::<u32, u32>(SELECTION, Array, capacity.selection, MMAPABLE),
        shape::<u32, MaglevPage>(MAGLEV, Array, capacity.maglev, MMAPABLE),
        shape::<u32, Iface>(IFACES, Hash, limits::IFACES, NO_PREALLOC),
        shape::<u32, u64>(COUNTERS, PerCpuArray, limits::COUNTERS, 0),
        shape::<u32, ServiceCounters>(SERVICES, PerCpuArray, capacity.services, 0),
        shape::<u32, EntryCount>(ENTRIES, PerCpuArray, EntryTable::COUNT, 0),
        shape::<u32, u64>(PORT_SECRET, Array, 1, 0),
        shape::<u32, u32>(LEASE, Array, Lease::COUNT, 0),
        shape::<u32, Migration>(MIGRATION, Array, 1, 0),
        shape::<AnnouncedKey, Announced>(ANNOUNCED, Hash, limits::ANNOUNCED, NO_PREALLOC),
        shape::<NodeMac, u32>(NODE_MACS, Hash, limits::NODE_MACS, NO_PREALLOC),
        shape::<u64, u32>(POD_NETNS, LruHash, limits::POD_NETNS, 0),
        shape::<u32, [u64; limits::PRESENCE as usize]>(PRESENCE, Array, 1, MMAPABLE),
    ]);
    shapes
}

fn shape<K: Layout, V: Layout>(name: &'static str, kind: MapKind, max_entries: u32, flags: u32) -> Map {
    let (key_size, value_size) = (size_of::<K>() as u32, size_of::<V>() as u32);
    let layout = TableLayout { name, key: K::FIELDS.to_vec(), value: V::FIELDS.to_vec() };
    Map { shape: MapShape { name, kind, key_size, value_size, max_entries, flags }, layout }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dataplane::object::OBJECT;

    #[test]
    fn the_shapes_are_those_of_the_object() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let shapes = map_shapes(&TableSizes::default());
        for shape in &shapes {
            let map = &object.maps[shape.name];
            let of_object =
                (map.map_type(), map.key_size(), map.value_size(), map.max_entries(), map.map_flags());
            let ours = (shape.kind as u32, shape.key_size, shape.value_size, shape.max_entries, shape.flags);
            assert_eq!(ours, of_object, "{}", shape.name);
        }
        let named: BTreeSet<_> = shapes.iter().map(|shape| shape.name).collect();
        assert_eq!(named, TABLES.iter().chain(RECORDS).copied().collect());
    }
}
