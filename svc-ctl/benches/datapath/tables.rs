//! The maps of the programs: a NodePort Service with remote backends and a ClusterIP Service with one on this node, written like the daemon writes it.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, PerCpuArray};
use svc_common::abi::{
    AddressFlags, BackendValue, Counter, Extent, FlowKey, FlowRecord, FrontendFlags, FrontendKey,
    FrontendValue, Iface, IfaceFlags, Locality, PrefixKey, PrefixList, Role, Scope, ServicePortId, limits,
    names,
};
use svc_common::addr::{Port, Proto};
use svc_common::datapath::presence::{Marks, Place};
use svc_common::family::{Family, V4, V6};

use crate::node::{BACKEND_PORT, BACKENDS, NODE_PORT, Plan, SERVICE_PORT, UPLINK_MAC};

/// Id of the backend on this node.
const LOCAL_BACKEND: u32 = BACKENDS as u32 + 1;

/// Fills the tables that both families share: the uplink's role and the extent of backend ids.
pub fn fill_common(ebpf: &mut Ebpf, uplink: u32) -> Result<()> {
    let iface = Iface {
        role: Role::UPLINK,
        bridge: 0,
        snat_v4: V4::node(),
        snat_v6: V6::node(),
        mac: UPLINK_MAC,
        flags: IfaceFlags::TAKES_XDP,
    };
    HashMap::try_from(map(ebpf, names::IFACES)?)?.insert(uplink, iface, 0)?;
    let mut selection = Array::try_from(map(ebpf, names::SELECTION)?)?;
    for number in 1..=LOCAL_BACKEND {
        selection.set(number, number, 0)?;
    }
    Ok(())
}

/// The value of a counter, summed over all CPUs.
pub fn counter(ebpf: &mut Ebpf, counter: Counter) -> Result<u64> {
    let counters = PerCpuArray::<_, u64>::try_from(map(ebpf, names::COUNTERS)?)?;
    Ok(counters.get(&(counter as u32), 0)?.iter().sum())
}

/// All nonzero counters.
pub fn moved(ebpf: &mut Ebpf) -> Result<Vec<(&'static str, u64)>> {
    let all = Counter::ALL.iter().map(|which| Ok((which.label(), counter(ebpf, *which)?)));
    let all: Vec<_> = all.collect::<Result<_>>()?;
    Ok(all.into_iter().filter(|(_, count)| *count > 0).collect())
}

pub fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    ebpf.map_mut(name).with_context(|| format!("no map {name}"))
}

/// Marks the presence filter, as the daemon does before it writes an entry.
fn mark(ebpf: &mut Ebpf, marks: &[(Place, Marks)]) -> Result<()> {
    // Programs of an older build have no filter.
    let Some(map) = ebpf.map_mut(names::PRESENCE) else { return Ok(()) };
    let mut filter = Array::<_, [u64; limits::PRESENCE as usize]>::try_from(map)?;
    let mut words = filter.get(&0, 0)?;
    for (place, marks) in marks {
        let word = &mut words[place.word as usize];
        *word = place.marked(*word, *marks);
    }
    Ok(filter.set(0, words, 0)?)
}

pub type Flow<F> = (FlowKey<<F as Family>::Addr>, FlowRecord<<F as Family>::Addr>);

/// A family's maps, because map names cannot be generic.
pub trait Maps: Plan {
    /// Writes the Services of the cases and this many others.
    fn fill(ebpf: &mut Ebpf, others: u32) -> Result<()>;
    fn flows(ebpf: &mut Ebpf) -> Result<Vec<Flow<Self>>>;
    /// Moves every record to the flow table, as packets do that assure their flows.
    fn assure(ebpf: &mut Ebpf) -> Result<()>;
    /// Stores that packets of this tuple are of a connection older than its frontend.
    fn store_older(ebpf: &mut Ebpf, key: &FlowKey<Self::Addr>) -> Result<()>;
    /// Lists an address as one of a load-balancer pool.
    fn put_pool(ebpf: &mut Ebpf, addr: Self::Addr) -> Result<()>;
    /// Fills the table of the bare look-up.
    fn fill_floor(bench: &mut Ebpf, flows: &[Flow<Self>]) -> Result<()>;
}

macro_rules! maps {
    ($family:ty, $frontends:ident, $backends:ident, $addrs:ident, $flows:ident, $unassured:ident, $bypass:ident, $prefixes:ident, $lookup:literal) => {
        impl Maps for $family {
            fn fill(ebpf: &mut Ebpf, others: u32) -> Result<()> {
                let services = (0..others).map(Self::other_service).chain([Self::cluster_ip()]);
                let mut marks = vec![
                    (Place::of_port(Port::new(NODE_PORT), Proto::UDP), Marks::FRONTEND),
                    (Place::of_port(Port::new(NODE_PORT), Proto::TCP), Marks::FRONTEND),
                    (
                        Place::of::<Self>(Self::local_backend(), Port::new(BACKEND_PORT), Proto::UDP),
                        Marks::BACKEND,
                    ),
                ];
                for addr in services {
                    marks.push((
                        Place::of::<Self>(addr, Port::new(SERVICE_PORT), Proto::UDP),
                        Marks::FRONTEND,
                    ));
                    marks.push((Place::of_address::<Self>(addr), Marks::FRONTEND));
                }
                for (number, proto) in
                    (1..=BACKENDS).flat_map(|number| [(number, Proto::UDP), (number, Proto::TCP)])
                {
                    let place = Place::of::<Self>(Self::backend(number), Port::new(BACKEND_PORT), proto);
                    marks.push((place, Marks::BACKEND));
                }
                mark(ebpf, &marks)?;
                let mut backends = Array::try_from(map(ebpf, names::$backends)?)?;
                for number in 1..=BACKENDS {
                    let (addr, port) = (Self::backend(number), Port::new(BACKEND_PORT));
                    let backend = BackendValue { addr, port, locality: Locality::REMOTE, _pad: 0 };
                    backends.set(u32::from(number), backend, 0)?;
                }
                let (addr, port) = (Self::local_backend(), Port::new(BACKEND_PORT));
                let backend = BackendValue { addr, port, locality: Locality::LOCAL, _pad: 0 };
                backends.set(LOCAL_BACKEND, backend, 0)?;
                let flags = AddressFlags(AddressFlags::LOCAL.0 | AddressFlags::NODE_PORT.0);
                let mut addresses = HashMap::try_from(map(ebpf, names::$addrs)?)?;
                addresses.insert(Self::node(), flags, 0)?;
                addresses.insert(Self::cluster_ip(), AddressFlags::CLUSTER_IP, 0)?;
                for number in 0..others {
                    addresses.insert(Self::other_service(number), AddressFlags::CLUSTER_IP, 0)?;
                }
                let key = FrontendKey {
                    addr: <Self as Family>::Addr::default(),
                    port: Port::new(NODE_PORT),
                    proto: Proto::UDP,
                    scope: Scope::NODE_PORT,
                };
                let cluster = Extent { first: 1, count: u32::from(BACKENDS) };
                let value = FrontendValue {
                    service: ServicePortId(1),
                    flags: FrontendFlags::EXTERNAL
                        .with(FrontendFlags::MASQUERADE_PODS)
                        .with(FrontendFlags::MASQUERADE_OTHERS),
                    maglev: Extent::default(),
                    cluster,
                    local: Extent::default(),
                    affinity: 0,
                };
                let mut frontends = HashMap::try_from(map(ebpf, names::$frontends)?)?;
                frontends.insert(key, value, 0)?;
                frontends.insert(FrontendKey { proto: Proto::TCP, ..key }, value, 0)?;
                let of =
                    |addr| FrontendKey { addr, port: Port::new(SERVICE_PORT), scope: Scope::ADDRESS, ..key };
                let local = FrontendValue {
                    service: ServicePortId(2),
                    flags: FrontendFlags::NONE,
                    cluster: Extent { first: LOCAL_BACKEND, count: 1 },
                    ..value
                };
                frontends.insert(of(Self::cluster_ip()), local, 0)?;
                for number in 0..others {
                    frontends.insert(of(Self::other_service(number)), local, 0)?;
                }
                Ok(())
            }

            fn flows(ebpf: &mut Ebpf) -> Result<Vec<Flow<Self>>> {
                let mut flows = Vec::new();
                // Programs of an older build have one table.
                for name in [names::$flows, names::$unassured] {
                    if let Some(table) = ebpf.map_mut(name) {
                        flows.extend(HashMap::try_from(table)?.iter().collect::<Result<Vec<_>, _>>()?);
                    }
                }
                Ok(flows)
            }

            fn assure(ebpf: &mut Ebpf) -> Result<()> {
                let Some(table) = ebpf.map_mut(names::$unassured) else { return Ok(()) };
                let mut unassured =
                    HashMap::<_, FlowKey<Self::Addr>, FlowRecord<Self::Addr>>::try_from(table)?;
                let records: Vec<_> = unassured.iter().collect::<Result<_, _>>()?;
                records.iter().try_for_each(|(key, _)| unassured.remove(key))?;
                let mut flows = HashMap::try_from(map(ebpf, names::$flows)?)?;
                records.into_iter().try_for_each(|(key, record)| Ok(flows.insert(key, record, 0)?))
            }

            fn store_older(ebpf: &mut Ebpf, key: &FlowKey<Self::Addr>) -> Result<()> {
                let mut older = HashMap::<_, FlowKey<Self::Addr>, u32>::try_from(map(ebpf, names::$bypass)?)?;
                Ok(older.insert(key, 0, 0)?)
            }

            fn put_pool(ebpf: &mut Ebpf, addr: Self::Addr) -> Result<()> {
                let mut prefixes =
                    LpmTrie::<_, PrefixKey<Self::Addr>, u8>::try_from(map(ebpf, names::$prefixes)?)?;
                let bits = PrefixList::BITS + 8 * Self::ADDR_LEN as u32;
                Ok(prefixes.insert(&Key::new(bits, PrefixKey { list: PrefixList::POOLS, addr }), 1, 0)?)
            }

            fn fill_floor(bench: &mut Ebpf, flows: &[Flow<Self>]) -> Result<()> {
                type Key = FlowKey<<$family as Family>::Addr>;
                type Record = FlowRecord<<$family as Family>::Addr>;
                let mut lookup = HashMap::<_, Key, Record>::try_from(map(bench, $lookup)?)?;
                flows.iter().try_for_each(|(key, record)| Ok(lookup.insert(key, record, 0)?))
            }
        }
    };
}

maps!(V4, FRONTENDS4, BACKENDS4, ADDRESSES4, FLOWS4, UNASSURED4, BYPASS4, PREFIXES4, "LOOKUP4");
maps!(V6, FRONTENDS6, BACKENDS6, ADDRESSES6, FLOWS6, UNASSURED6, BYPASS6, PREFIXES6, "LOOKUP6");
