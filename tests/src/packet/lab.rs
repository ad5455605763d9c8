//! The laboratory: a network namespace with the rows' little world, the programs loaded over tables of its own.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use aya::Pod;
use aya::programs::XdpMode;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6, Proto};
use svc_common::datapath::state::STAMP_SHIFT;
use svc_ctl::dataplane::bpf::BpfStore;
use svc_ctl::dataplane::load::{Loaded, Settings};
use svc_ctl::dataplane::maps::{FamilyMaps, Maps};
use svc_ctl::dataplane::pins::Pins;
use svc_ctl::dataplane::store::MapStore as _;
use svc_ctl::plan::tables::{Backend, Frontend, FrontendEntry, MapOp, Prefix};

use super::flow::{Line, SERVICE, Spell, decode, encode};
use super::place::{self, Family, INTERFACES};
use super::row::{At, Row, Service, locality};
use super::run::{self, Ran};
use super::stay;
use super::wire::{Case, endpoint};
use crate::command;

/// First source port of masquerade, and how many.
pub const SNAT_PORTS: (u16, u16) = (20_000, 1_000);

/// Programs, tables and interfaces of the namespace that the process is in.
pub struct Lab {
    // Its XDP link keeps the receive queues that test runs need.
    _loaded: Loaded,
    programs: BTreeMap<&'static str, OwnedFd>,
    store: BpfStore,
    stays: stay::Tables,
    /// What the rows call the backends.
    backends: Backends,
    interfaces: BTreeMap<&'static str, u32>,
    pub knows_complete_checksums: bool,
}

/// Moves the process (still with one thread) into a network and mount namespace of its own.
pub fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("a namespace of its own (needs root)")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private mounts")?;
    mount(Some("bpffs"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).context("a bpffs")
}

impl Lab {
    /// Builds the world and loads the programs.
    pub fn new() -> Result<Self> {
        build_world()?;
        let mut interfaces = BTreeMap::new();
        for (name, ..) in INTERFACES {
            interfaces.insert(*name, nix::net::if_::if_nametoindex(*name)?);
        }
        let pins = Pins::open("/sys/fs/bpf/packets".as_ref())?;
        let settings = Settings {
            snat_ports: SNAT_PORTS,
            pod_sockets: false,
            pods_by_source: false,
            service_cidrs: true,
        };
        let mut loaded = Loaded::new(&pins, settings)?;
        for uplink in ["up0", "up1", "up2"] {
            loaded.xdp("uplink_xdp")?.attach(uplink, XdpMode::Driver).context("XDP on a veth")?;
        }
        let mut programs = BTreeMap::new();
        for at in [At::PodIngress, At::PodEgress, At::UplinkIngress, At::UplinkEgress, At::Xdp] {
            programs.insert(at.program(), loaded.program(at.program())?);
        }
        let knows_complete_checksums = loaded.features.csum_ipv6_flag;
        let store = BpfStore(Maps::open(&pins)?);
        let stays = stay::Tables::open(&pins)?;
        let backends = Backends::default();
        Ok(Self { _loaded: loaded, programs, store, stays, backends, interfaces, knows_complete_checksums })
    }

    pub fn ifindex(&self, interface: &str) -> u32 {
        match self.interfaces.get(interface) {
            Some(index) => *index,
            None => panic!("no interface {interface}"),
        }
    }

    /// Empties every table and writes the row's.
    pub fn set_up(&mut self, row: &Row, case: Case) -> Result<()> {
        clear(&mut self.store.0.v4)?;
        clear(&mut self.store.0.v6)?;
        self.stays.clear()?;
        self.backends = Backends::default();
        self.write_interfaces(row.has_snat_addresses)?;
        let mut ops = Vec::new();
        for family in [Family::V4, Family::V6] {
            let both = AddressFlags(AddressFlags::LOCAL.0 | AddressFlags::NODE_PORT.0);
            for (host, flags) in
                [("node", both), ("node-b", AddressFlags::LOCAL), ("bridge", AddressFlags::LOCAL)]
            {
                ops.push(MapOp::PutAddress(place::address(host, family), flags));
            }
        }
        let mut next = 0;
        // Where `vip` and its neighbours come from.
        let cidr = Prefix { list: PrefixList::SERVICE_CIDRS, net: place::prefix("vip/16", case.family) };
        ops.extend(row.has_service_cidr.then_some(MapOp::PutPrefix(cidr)));
        for service in &row.services {
            put_service(service, case, &mut self.backends, &mut next, &mut ops);
        }
        let (_, result) = self.store.apply(&ops);
        result?;
        for stay in &row.stays_before {
            self.stays.insert(stay, self.backends.id(stay.backend), case.family)?;
        }
        let now = now();
        for flow in &row.before {
            for line in flow.records(case, now, &|name| self.ifindex(name)) {
                match case.family {
                    Family::V4 => insert(&mut self.store.0.v4, &line)?,
                    Family::V6 => insert(&mut self.store.0.v6, &line)?,
                }
            }
        }
        Ok(())
    }

    fn write_interfaces(&mut self, has_snat_addresses: bool) -> Result<()> {
        for (name, index) in &self.interfaces {
            let (role, own) = match *name {
                "up0" => (Role::UPLINK, "node"),
                "up1" => (Role::UPLINK, "node-b"),
                "up2" => (Role::UPLINK, "any"),
                "cni0" => (Role::POD_BRIDGE, "bridge"),
                "port0" | "port1" => (Role::POD, "bridge"),
                _ => (Role::POD, "node"),
            };
            let is_port = name.starts_with("port");
            let own = if has_snat_addresses { own } else { "any" };
            let iface = Iface {
                role,
                bridge: if is_port { self.ifindex("cni0") } else { 0 },
                snat_v4: AddrV4::from_ip(place::address(own, Family::V4)),
                snat_v6: AddrV6::from_ip(place::address(own, Family::V6)),
                mac: place::macs(name).0,
                flags: match role {
                    Role::UPLINK => IfaceFlags::TAKES_XDP,
                    Role::POD => IfaceFlags::LOCAL_PODS,
                    _ => IfaceFlags::NONE,
                },
            };
            self.store.0.ifaces.insert(index, iface, 0)?;
        }
        Ok(())
    }

    /// Runs the program of a hook.
    pub fn run(&self, at: At, interface: &str, gso: u32, packet: &[u8], flags: u32) -> Result<Ran> {
        let program =
            self.programs.get(at.program()).with_context(|| format!("{at:?} has no program"))?.as_fd();
        let index = self.ifindex(interface);
        Ok(match at {
            At::Xdp => run::xdp(program, packet, index)?,
            _ => run::tc(program, packet, index, gso, flags)?,
        })
    }

    /// Every counter that is not zero.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let value = |c: &Counter| (c.label(), self.store.0.counter(*c));
        Counter::ALL.iter().map(value).filter(|(_, v)| *v != 0).collect()
    }

    pub fn service_counters(&self) -> ServiceCounters {
        self.store.0.service(SERVICE)
    }

    /// The flow table of a family.
    pub fn flows(&self, family: Family) -> Result<Vec<Line>> {
        match family {
            Family::V4 => dump(&self.store.0.v4),
            Family::V6 => dump(&self.store.0.v6),
        }
    }

    /// Who stays with whom, in words.
    pub fn stays(&self, family: Family) -> Result<Vec<String>> {
        self.stays.spell(family, &|id| self.backends.name(id))
    }
}

fn build_world() -> Result<()> {
    let sysctl = |key: &str, value: &str| {
        std::fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("sysctl {key}"))
    };
    // No noise, and addresses that count at once.
    for key in ["ipv6/conf/default/accept_dad", "ipv6/conf/default/router_solicitations"] {
        sysctl(key, "0")?;
    }
    command::feed(Command::new("ip").args(["-batch", "-"]), &place::ip_batch())?;
    for version in ["ipv4", "ipv6"] {
        sysctl(&format!("{version}/conf/all/forwarding"), "1")?;
        sysctl(&format!("{version}/conf/up2/forwarding"), "0")?;
    }
    Ok(())
}

/// The names of backends; the first has id 1.
#[derive(Default)]
struct Backends(Vec<&'static str>);

impl Backends {
    fn id(&mut self, name: &'static str) -> BackendId {
        let known = self.0.iter().position(|other| *other == name);
        let at = known.unwrap_or_else(|| (self.0.push(name), self.0.len() - 1).1);
        BackendId(at as u32 + 1)
    }

    fn name(&self, id: BackendId) -> String {
        let name = self.0.get((id.0 as usize).wrapping_sub(1));
        name.map_or_else(|| format!("backend {}", id.0), |name| (*name).to_owned())
    }
}

fn put_service(service: &Service, case: Case, known: &mut Backends, next: &mut u32, ops: &mut Vec<MapOp>) {
    let mut put = |backends: &[&'static str]| {
        let mut ids = Vec::new();
        for text in backends {
            let (addr, port) = endpoint(text, case);
            let id = known.id(text);
            ops.push(MapOp::PutBackend(id, Backend { addr, port, locality: locality(text) }));
            ids.push(id);
        }
        ids.sort();
        let extent = Extent { first: if ids.is_empty() { 0 } else { *next }, count: ids.len() as u32 };
        *next += extent.count;
        ops.push(MapOp::PutExtent(extent, ids));
        extent
    };
    let (mut cluster, local) = (put(service.cluster), put(service.local));
    if service.is_torn {
        cluster = Extent { first: limits::SELECTION, count: 1 };
    }
    let (addr, port) = endpoint(service.frontend, case);
    let scope = if addr.is_unspecified() { Scope::NODE_PORT } else { Scope::ADDRESS };
    let Service { flags, affinity, .. } = *service;
    let list = PrefixList::sources_of(SERVICE);
    ops.extend(
        service
            .sources
            .iter()
            .map(|text| MapOp::PutPrefix(Prefix { list, net: place::prefix(text, case.family) })),
    );
    if scope == Scope::ADDRESS && !flags.has(FrontendFlags::EXTERNAL) {
        // The node may have it as well.
        let own =
            if locality(service.frontend) == Locality::HOST { AddressFlags::LOCAL } else { AddressFlags(0) };
        ops.push(MapOp::PutAddress(addr, own.with(AddressFlags::CLUSTER_IP)));
    }
    let maglev = Extent { first: *next, count: service.maglev.len() as u32 };
    *next += maglev.count;
    let places = service.maglev.iter().map(|&at| known.id(service.cluster[at])).collect();
    ops.push(MapOp::PutExtent(maglev, places));
    for proto in [Proto::TCP, Proto::UDP] {
        let entry = FrontendEntry { service: SERVICE, flags, cluster, local, maglev, affinity };
        ops.push(MapOp::PutFrontend(Frontend { addr, port, proto, scope }, entry));
    }
}

/// The present in ticks of a record's stamp, and how far into the tick it is.
pub fn clock() -> (u32, u64) {
    let ns = coarse_ns();
    ((ns >> STAMP_SHIFT) as u32, ns & ((1 << STAMP_SHIFT) - 1))
}

pub fn now() -> u32 {
    clock().0
}

/// Nanoseconds of the clock that the programs stamp by.
pub fn coarse_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn clear<A: Pod + Spell>(maps: &mut FamilyMaps<A>) -> Result<()>
where
    FrontendKey<A>: Pod,
    PrefixKey<A>: Pod,
    BackendValue<A>: Pod,
    FlowKey<A>: Pod,
    FlowRecord<A>: Pod,
{
    let keys: Result<Vec<_>, _> = maps.frontends.keys().collect();
    keys?.iter().try_for_each(|key| maps.frontends.remove(key))?;
    let keys: Result<Vec<_>, _> = maps.flows.keys().collect();
    keys?.iter().try_for_each(|key| maps.flows.remove(key))?;
    let keys: Result<Vec<_>, _> = maps.addresses.keys().collect();
    keys?.iter().try_for_each(|key| maps.addresses.remove(key))?;
    let keys: Result<Vec<_>, _> = maps.prefixes.keys().collect();
    keys?.iter().try_for_each(|key| maps.prefixes.remove(key))?;
    Ok(())
}

fn insert<A: Pod + Spell>(maps: &mut FamilyMaps<A>, line: &Line) -> Result<()>
where
    FrontendKey<A>: Pod,
    PrefixKey<A>: Pod,
    BackendValue<A>: Pod,
    FlowKey<A>: Pod,
    FlowRecord<A>: Pod,
{
    let (key, record) = encode::<A>(line);
    Ok(maps.flows.insert(key, record, 0)?)
}

fn dump<A: Pod + Spell>(maps: &FamilyMaps<A>) -> Result<Vec<Line>>
where
    FrontendKey<A>: Pod,
    PrefixKey<A>: Pod,
    BackendValue<A>: Pod,
    FlowKey<A>: Pod,
    FlowRecord<A>: Pod,
{
    let mut lines = Vec::new();
    for entry in maps.flows.iter() {
        let (key, record) = entry?;
        lines.push(decode(&key, &record).map_err(|err| anyhow!(err))?);
    }
    Ok(lines)
}
