//! The kernel for the packet tiers: a network namespace with the network of `place`, the programs loaded over tables
//! of its own, and access to them. The tests fill the tables.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::XdpMode;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use svc_common::abi::*;
use svc_common::addr::AddrV4;
use svc_common::addr::AddrV6;
use svc_ctl::dataplane::bpf::BpfStore;
use svc_ctl::dataplane::clock::coarse_ns;
use svc_ctl::dataplane::load::{Loaded, ProgramSettings};
use svc_ctl::dataplane::maps::{FamilyMaps, Maps};
use svc_ctl::dataplane::object::OBJECT;
use svc_ctl::dataplane::pins::Pins;

use super::carried;
use super::flow::LineCodec;
use super::hash;
use super::place::{self, Family, INTERFACES};
use super::row::At;
use super::run::{self, Ran};
use super::table::open;
use super::{tagged, tunnel};
use crate::bpf::Prelude;
use crate::command;

/// A tick of the records in nanoseconds of the kernel's clock, as a power of two. It is spelled out here, so that lifetimes in
/// ticks are lifetimes in seconds, too.
const STAMP_SHIFT: u32 = 30;

/// Programs, tables and interfaces of this process's namespace.
pub struct Kernel {
    // Its XDP link keeps the receive queues that test runs need.
    _loaded: Loaded,
    programs: BTreeMap<&'static str, OwnedFd>,
    /// Programs before those at TC: for a packet with a tag, or from a tunnel.
    preludes: BTreeMap<&'static str, Prelude>,
    pub pins: Pins,
    pub store: BpfStore,
    interfaces: BTreeMap<&'static str, u32>,
    pub knows_complete_checksums: bool,
}

/// Moves the process (still with one thread) into its own network and mount namespace.
pub fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("a namespace of its own (needs root)")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private mounts")?;
    mount(Some("bpffs"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).context("a bpffs")
}

impl Kernel {
    /// Builds the network and loads the programs with these SNAT ports: the first, and the number.
    pub fn new(snat_ports: (u16, u16)) -> Result<Self> {
        Self::with_object(OBJECT, snat_ports)
    }

    /// The same with the programs of this object.
    pub fn with_object(object: &[u8], snat_ports: (u16, u16)) -> Result<Self> {
        build_world()?;
        let mut interfaces = BTreeMap::new();
        for (name, ..) in INTERFACES {
            interfaces.insert(*name, nix::net::if_::if_nametoindex(*name)?);
        }
        let pins = Pins::open("/sys/fs/bpf/packets".as_ref())?;
        let settings = ProgramSettings {
            snat_ports,
            pod_sockets: PodSockets::WITHOUT_DAEMON,
            pods_by_source: false,
            service_cidrs: true,
            drops_unknown_ports: false,
            pools: true,
            new_flow_limit: 0,
        };
        carried::make(object, &pins)?;
        let mut loaded = Loaded::with_object(object, &pins, settings)?;
        for uplink in ["up0", "up1", "up2"] {
            loaded.xdp("uplink_xdp")?.attach(uplink, XdpMode::Driver).context("XDP on a veth")?;
        }
        let (mut programs, mut preludes) = (BTreeMap::new(), BTreeMap::new());
        let tunnels = [At::TunnelIngress, At::TunnelEgress];
        let others = [At::PodIngress, At::PodEgress, At::UplinkIngress, At::UplinkEgress, At::Xdp];
        for at in tunnels.into_iter().chain(others) {
            let program = loaded.program(at.program())?;
            if at.is_tc() {
                let prelude = if at.is_tunnel() { tunnel::to_this_host } else { tagged::tagger };
                preludes.insert(at.program(), prelude(program.as_fd()).context("a prelude")?);
            }
            programs.insert(at.program(), program);
        }
        let knows_complete_checksums = loaded.features.csum_ipv6_flag;
        let store = BpfStore(Maps::open(&pins)?);
        let mut secret: Array<MapData, u64> = open(&pins, names::PORT_SECRET)?.try_into()?;
        secret.set(0, hash::SECRET, 0)?;
        Ok(Self { _loaded: loaded, programs, preludes, pins, store, interfaces, knows_complete_checksums })
    }

    pub fn ifindex(&self, interface: &str) -> u32 {
        match self.interfaces.get(interface) {
            Some(index) => *index,
            None => panic!("no interface {interface}"),
        }
    }

    /// Removes all frontends, addresses, prefixes, flows, and marks of the presence filter.
    pub fn clear(&mut self) -> Result<()> {
        self.store.0.presence.fill(0)?;
        clear_frontends(&mut self.store.0.v4)?;
        clear_frontends(&mut self.store.0.v6)?;
        self.clear_flows()
    }

    /// Moves all flows to the flow tables, as packets do that assure them.
    pub fn assure_flows(&mut self) -> Result<()> {
        assure_flows(&mut self.store.0.v4)?;
        assure_flows(&mut self.store.0.v6)
    }

    /// Removes flows, the node's own connections, and fragments.
    pub fn clear_flows(&mut self) -> Result<()> {
        clear::<FragmentKey<AddrV4>, FragmentPorts>(&self.pins, names::FRAGMENTS4)?;
        clear::<FragmentKey<AddrV6>, FragmentPorts>(&self.pins, names::FRAGMENTS6)?;
        clear::<FlowKey<AddrV4>, u32>(&self.pins, names::BYPASS4)?;
        clear::<FlowKey<AddrV6>, u32>(&self.pins, names::BYPASS6)?;
        clear_flows(&mut self.store.0.v4)?;
        clear_flows(&mut self.store.0.v6)
    }

    /// Makes every flow's last packet that many ticks older.
    pub fn age_flows(&mut self, ticks: u32) -> Result<()> {
        age_flows(&mut self.store.0.v4, ticks)?;
        age_flows(&mut self.store.0.v6, ticks)
    }

    /// Writes the interface table, optionally without SNAT addresses or without marking pods' interfaces. All
    /// interfaces also get these flags.
    pub fn write_interfaces(
        &mut self,
        has_snat_addresses: bool,
        knows_pods: bool,
        all: IfaceFlags,
    ) -> Result<()> {
        for (name, index) in &self.interfaces {
            let (role, own) = match *name {
                "up0" => (Role::UPLINK, "node"),
                "up1" => (Role::UPLINK, "node-b"),
                "up2" => (Role::UPLINK, "any"),
                "tunnel0" => (Role::UPLINK, "node"),
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
                    Role::UPLINK if *name != "tunnel0" => IfaceFlags::TAKES_XDP,
                    Role::POD if knows_pods => IfaceFlags::LOCAL_PODS,
                    _ => IfaceFlags::NONE,
                }
                .with(all),
            };
            self.store.0.ifaces.insert(index, iface, 0)?;
        }
        Ok(())
    }

    /// Runs the program of a hook on a frame as on the wire. At TC the outer tag is beside the frame, at egress too. A tunnel's
    /// packet is the frame without its Ethernet header.
    pub fn run(&self, at: At, interface: &str, gso: u32, packet: &[u8], flags: u32) -> Result<Ran> {
        let program =
            self.programs.get(at.program()).with_context(|| format!("{at:?} has no program"))?.as_fd();
        let index = self.ifindex(interface);
        if !at.is_tc() {
            return Ok(run::xdp(program, packet, index)?);
        }
        let (tag, frame) = match packet.get(tunnel::ETH..) {
            Some(packet) if at.is_tunnel() => (None, packet.to_vec()),
            _ => tagged::untagged(packet),
        };
        let prelude = self.preludes.get(at.program()).filter(|_| tag.is_some() || at.is_tunnel());
        let program = prelude.map_or(program, Prelude::program);
        Ok(run::tc(program, &frame, run::Skb { ifindex: index, gso_size: gso, tag }, flags)?)
    }

    /// All nonzero counters.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let value = |c: &Counter| (c.label(), self.store.0.counter(*c));
        Counter::ALL.iter().map(value).filter(|(_, v)| *v != 0).collect()
    }
}

fn build_world() -> Result<()> {
    let sysctl = |key: &str, value: &str| {
        std::fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("sysctl {key}"))
    };
    // No background packets, and addresses that work at once.
    for key in ["ipv6/conf/default/accept_dad", "ipv6/conf/default/router_solicitations"] {
        sysctl(key, "0")?;
    }
    command::feed(Command::new("ip").args(["-batch", "-"]), &place::ip_batch())?;
    for (family, option) in [(Family::V4, "-4"), (Family::V6, "-6")] {
        command::feed(Command::new("ip").args([option, "-batch", "-"]), &place::rules(family))?;
    }
    for version in ["ipv4", "ipv6"] {
        sysctl(&format!("{version}/conf/all/forwarding"), "1")?;
        sysctl(&format!("{version}/conf/up2/forwarding"), "0")?;
    }
    Ok(())
}

/// Now, in ticks of a record's stamp, and the time since that tick began.
pub fn clock() -> (u32, u64) {
    let ns = coarse_ns();
    ((ns >> STAMP_SHIFT) as u32, ns & ((1 << STAMP_SHIFT) - 1))
}

pub fn now() -> u32 {
    clock().0
}

fn clear_frontends<A: MapAddr>(maps: &mut FamilyMaps<A>) -> Result<()> {
    let keys: Result<Vec<_>, _> = maps.frontends.keys().collect();
    keys?.iter().try_for_each(|key| maps.frontends.remove(key))?;
    let keys: Result<Vec<_>, _> = maps.addresses.keys().collect();
    keys?.iter().try_for_each(|key| maps.addresses.remove(key))?;
    let keys: Result<Vec<_>, _> = maps.prefixes.keys().collect();
    Ok(keys?.iter().try_for_each(|key| maps.prefixes.remove(key))?)
}

fn clear_flows<A: MapAddr>(maps: &mut FamilyMaps<A>) -> Result<()> {
    for table in [&mut maps.flows, &mut maps.unassured] {
        let keys: Result<Vec<_>, _> = table.keys().collect();
        keys?.iter().try_for_each(|key| table.remove(key))?;
    }
    Ok(())
}

fn assure_flows<A: MapAddr>(maps: &mut FamilyMaps<A>) -> Result<()> {
    let flows: Result<Vec<_>, _> = maps.unassured.iter().collect();
    for (key, record) in flows? {
        maps.flows.insert(key, record, 0)?;
        maps.unassured.remove(&key)?;
    }
    Ok(())
}

fn clear<K: aya::Pod, V: aya::Pod>(pins: &Pins, name: &str) -> Result<()> {
    let map = MapData::from_pin(pins.map(name)).with_context(|| format!("opening {name}"))?;
    let mut map: HashMap<MapData, K, V> = HashMap::try_from(Map::from_map_data(map)?)?;
    let keys: Result<Vec<_>, _> = map.keys().collect();
    Ok(keys?.iter().try_for_each(|key| map.remove(key))?)
}

fn age_flows<A: MapAddr>(maps: &mut FamilyMaps<A>, ticks: u32) -> Result<()> {
    for table in [&mut maps.flows, &mut maps.unassured] {
        let flows: Result<Vec<_>, _> = table.iter().collect();
        for (key, record) in flows? {
            table.insert(key, FlowRecord { stamp: record.stamp.wrapping_sub(ticks), ..record }, 0)?;
        }
    }
    Ok(())
}
