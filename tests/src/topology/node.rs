//! A node: uplinks, strict rules, routes to the other node's pods, its pods, and a cgroup for all its processes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::pod::{self, Pod};
use super::{
    Addrs, Between, Family, Host, Offloads, Options, Shape, addresses, back_port, firewall, front_port, plug,
    prepare_for_xdp,
};
use crate::cgroup::Cgroup;
use crate::command;
use crate::netns::Netns;
use crate::run_name::RunName;

/// Name of the VXLAN's device.
const VXLAN: &str = "flannel.1";

/// The first pod's last octet; .1 is the bridge's.
const FIRST_POD: u8 = 10;

/// A simulated node of the cluster.
#[derive(Debug)]
pub struct Node {
    pub host: Host,
    pub pods: BTreeMap<String, Pod>,
    run: RunName,
    index: u8,
    options: Options,
    next_pod: u8,
    /// The bridge that its network card is a port of, which has the card's addresses.
    bridge_of_card: Option<&'static str>,
    cgroup: Cgroup,
}

impl Node {
    pub(super) fn new(
        run: &RunName,
        index: u8,
        options: Options,
        lan: &Netns,
        root: &Cgroup,
    ) -> Result<Self> {
        let name = format!("node{index}");
        let netns = Netns::new(&run.host(&name))?;
        firewall::strict_sysctls(&netns)?;
        firewall::strict_rules(&netns, index, options.forwards)?;
        uplinks(&netns, &name, index, options, lan)?;
        if options.shape == Shape::Bridged {
            bridge(&netns, index, options.bridge_nf)?;
        }
        let cgroup = root.child(&name)?;
        let host = Host::new(&name, netns, cgroup.child("system")?, addresses::front(index))?;
        Ok(Self {
            host,
            pods: BTreeMap::new(),
            run: run.clone(),
            index,
            options,
            next_pod: FIRST_POD,
            bridge_of_card: None,
            cgroup,
        })
    }

    pub fn name(&self) -> &str {
        self.host.name()
    }

    pub fn uplinks(&self) -> &[&'static str] {
        if self.bridge_of_card.is_some() {
            return self.bridge_of_card.as_slice();
        }
        match self.options.between {
            Between::Lan => &["eth0"],
            Between::OwnUplink | Between::OwnUplinkBySource => &["eth0", "eth1"],
            Between::Tunnel if self.index == 1 => &["eth0", "tun0", "tun1"],
            Between::Tunnel => &["eth0", "tun0"],
            Between::Vxlan => &["eth0", VXLAN],
        }
    }

    /// The interfaces that have programs: the uplinks, and those of pods unless they are ports of an uplink.
    pub fn served_interfaces(&self) -> Vec<String> {
        let are_ports = self.options.shape == Shape::Bridged && self.bridge_of_card == Some("cni0");
        let pods = self.pods.values().filter(|_| !are_ports).map(|pod| pod.interface.clone());
        self.uplinks().iter().map(ToString::to_string).chain(pods).collect()
    }

    /// Makes the only network card a port of a bridge, which gets its addresses and routes, as on hosts with VMs on
    /// the LAN.
    pub fn bridge_card(&mut self) -> Result<()> {
        self.host.netns.ip("link add br0 type bridge\nlink set br0 up")?;
        self.join_card("br0")
    }

    /// Makes the network card a port of a bridge or bond, which gets its addresses.
    pub fn join_card(&mut self, bridge: &'static str) -> Result<()> {
        let netns = &self.host.netns;
        netns.ip(&format!(
            "link set {bridge} address 02:00:c0:00:02:{:02x}\n\
             addr flush dev eth0\nlink set eth0 down\nlink set eth0 master {bridge}\nlink set eth0 up",
            self.index
        ))?;
        address_uplink(netns, bridge, self.index)?;
        route_to_pods(netns, 3 - self.index, addresses::front(3 - self.index))?;
        self.bridge_of_card = Some(bridge);
        Ok(())
    }

    /// The cgroup with all of the node's processes in it, pods included.
    pub fn cgroup(&self) -> &Path {
        self.cgroup.path()
    }

    pub fn pod_cidrs(&self) -> Addrs {
        addresses::pod(self.index, 0)
    }

    /// All addresses of the node itself.
    pub fn addresses(&self) -> Vec<Addrs> {
        let mut all = vec![self.host.addrs];
        if self.egress() != self.host.addrs {
            all.push(self.egress());
        }
        all.extend((self.options.shape == Shape::Bridged).then(|| addresses::pod(self.index, 1)));
        all
    }

    /// The address of the interface towards the other node's pods.
    pub fn egress(&self) -> Addrs {
        match self.options.between {
            Between::Lan => self.host.addrs,
            Between::OwnUplink | Between::OwnUplinkBySource | Between::Tunnel => addresses::back(self.index),
            Between::Vxlan => addresses::pod(self.index, 0),
        }
    }

    /// As flannel does it: the other node's pods behind a next hop in the VXLAN, whose MAC and outer address are entered by
    /// hand.
    pub(super) fn join_vxlan(&self) -> Result<()> {
        let (own, other) = (self.index, 3 - self.index);
        let (outer, inner) = (addresses::front(own).v4, addresses::pod(own, 0));
        let (next, mac) = (addresses::pod(other, 0), vxlan_mac(other));
        let netns = &self.host.netns;
        netns.ip(&format!(
            "link add {VXLAN} address {} type vxlan id 1 dev eth0 local {outer} dstport 8472 nolearning",
            vxlan_mac(own)
        ))?;
        firewall::strict_interface(netns, VXLAN)?;
        netns.ip(&format!(
            "addr add {}/32 dev {VXLAN}\naddr add {}/128 dev {VXLAN} nodad\nlink set {VXLAN} up\n\
             neigh add {} lladdr {mac} dev {VXLAN} nud permanent\nneigh add {} lladdr {mac} dev {VXLAN} nud permanent\n\
             route add {}/24 via {} dev {VXLAN} onlink\nroute add {}/64 via {} dev {VXLAN} onlink",
            inner.v4, inner.v6, next.v4, next.v6, next.v4, next.v4, next.v6, next.v6
        ))?;
        let entry = format!("fdb append {mac} dev {VXLAN} dst {}", addresses::front(other).v4);
        command::run(netns.command("bridge")?.args(entry.split(' ')))?;
        Ok(())
    }

    /// The node and its pods.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.pods.values().map(|pod| &pod.host).chain([&self.host])
    }

    pub fn add_pod(&mut self, name: &str) -> Result<&Pod> {
        let addrs = addresses::pod(self.index, self.next_pod);
        self.next_pod += 1;
        self.add_pod_at(name, addrs)
    }

    /// Like [`Self::add_pod`], with these addresses.
    pub fn add_pod_at(&mut self, name: &str, addrs: Addrs) -> Result<&Pod> {
        let netns = Netns::new(&self.run.host(name))?;
        let cgroup = self.cgroup.child(&format!("kubepods/{name}"))?;
        let host = Host::new(name, netns, cgroup, addrs)?;
        let pod = Pod { host, interface: pod::interface_name(self.options.pod_prefix, name) };
        self.link(&pod).with_context(|| format!("join pod {name} to {}", self.name()))?;
        Ok(self.pods.entry(name.into()).or_insert(pod))
    }

    pub fn remove_pod(&mut self, name: &str) {
        self.pods.remove(name);
    }

    /// Deletes a pod's link and makes it again under the same name.
    pub fn relink(&self, pod: &str) -> Result<()> {
        let pod = self.pods.get(pod).with_context(|| format!("no pod {pod}"))?;
        self.host.netns.ip(&format!("link delete {}", pod.interface))?;
        self.link(pod)
    }

    /// Links a pod that was another node's. Its namespace and address stay; routes to it are the caller's part.
    pub fn adopt(&self, pod: &Pod) -> Result<()> {
        self.link(pod).with_context(|| format!("move pod {} to {}", pod.host.name(), self.name()))
    }

    fn link(&self, pod: &Pod) -> Result<()> {
        let node = &self.host.netns;
        match self.options.shape {
            Shape::Routed => pod.link_routed(node)?,
            Shape::Bridged => pod.link_bridged(node, addresses::pod(self.index, 1))?,
        }
        pod.await_link(node)?;
        match self.options.offloads {
            Offloads::Default => Ok(()),
            Offloads::TxOff => node.offload(&pod.interface, "tx", false),
            Offloads::ForXdp => {
                prepare_for_xdp(node, &pod.interface)?;
                prepare_for_xdp(&pod.host.netns, "eth0")
            }
        }
    }
}

/// Joins the LAN. Pods of the other nodes are reached by the last uplink.
fn uplinks(netns: &Netns, name: &str, index: u8, options: Options, lan: &Netns) -> Result<()> {
    plug(lan, "front", &front_port(name), netns, "eth0")?;
    address_uplink(netns, "eth0", index)?;
    finish_uplink(netns, "eth0", options.offloads)?;
    let mut address: fn(u8) -> Addrs = addresses::front;
    if options.between.has_own_uplink() {
        address = addresses::back;
        plug(lan, "back", &back_port(name), netns, "eth1")?;
        back_uplink(netns, index, addresses::back(3 - index))?;
        finish_uplink(netns, "eth1", options.offloads)?;
    }
    if options.between == Between::OwnUplinkBySource {
        route_pods_by_source(netns, index)?;
    }
    // An IPv6 next hop that another route reaches elsewhere is refused.
    if options.between == Between::Vxlan {
        return Ok(());
    }
    let mut with_pods = [1, 2].into_iter().filter(|other| *other != index);
    with_pods.try_for_each(|other| route_to_pods(netns, other, address(other)))
}

/// Packets of pods to the outside leave by eth1. Inside the cluster the main table applies.
fn route_pods_by_source(netns: &Netns, index: u8) -> Result<()> {
    let gateway = addresses::back(254);
    netns.ip(&format!(
        "route add default via {} dev eth1 table 200\nroute add default via {} dev eth1 table 200",
        gateway.v4, gateway.v6
    ))?;
    let inside = [addresses::front(1), addresses::front(2), addresses::back(1), addresses::back(2)];
    for (family, length, pods_of_all) in
        [(Family::V4, 24, addresses::PODS_V4), (Family::V6, 64, addresses::PODS_V6)]
    {
        let pods = format!("{}/{length}", addresses::pod(index, 0).of(family));
        let mut rules = format!("rule add from {pods} lookup 200 pref 1536\n");
        for to in inside.iter().map(|addrs| addrs.of(family).to_string()).chain([pods_of_all.to_owned()]) {
            rules.push_str(&format!("rule add from {pods} to {to} lookup main pref 1535\n"));
        }
        netns.ip_of(family, &rules)?;
    }
    Ok(())
}

fn vxlan_mac(node: u8) -> String {
    format!("02:00:0a:f4:{node:02x}:00")
}

/// The node's own addresses, and the default route.
fn address_uplink(netns: &Netns, interface: &str, index: u8) -> Result<()> {
    let (own, gateway) = (addresses::front(index), addresses::FRONT_GATEWAY);
    netns.ip(&format!(
        "addr add {}/24 dev {interface}\naddr add {}/64 dev {interface} nodad\nlink set {interface} up\n\
         route add default via {}\nroute add default via {}",
        own.v4, own.v6, gateway.v4, gateway.v6
    ))
}

/// Routes to another node's pods, through one of its addresses.
fn route_to_pods(netns: &Netns, other: u8, via: Addrs) -> Result<()> {
    let pods = addresses::pod(other, 0);
    netns.ip(&format!("route add {}/24 via {}\nroute add {}/64 via {}", pods.v4, via.v4, pods.v6, via.v6))
}

/// The uplink between the nodes. Its routes have the InternalIP as source (`src`), so that a UDP server bound to no
/// address answers from the dialled one. Only masqueraded and forwarded packets have eth1's address.
fn back_uplink(netns: &Netns, index: u8, via: Addrs) -> Result<()> {
    let (back, own, other) = (addresses::back(index), addresses::front(index), addresses::front(3 - index));
    let (subnet4, subnet6) = (addresses::back(0).v4, addresses::back(0).v6);
    netns.ip(&format!(
        "addr add {}/24 dev eth1 noprefixroute\naddr add {}/64 dev eth1 nodad noprefixroute\nlink set eth1 up\n\
         route add {subnet4}/24 dev eth1 src {src4}\nroute add {subnet6}/64 dev eth1 src {src6}\n\
         route add {}/32 via {} src {src4}\nroute add {}/128 via {} src {src6}",
        back.v4,
        back.v6,
        other.v4,
        via.v4,
        other.v6,
        via.v6,
        src4 = own.v4,
        src6 = own.v6,
    ))
}

fn finish_uplink(netns: &Netns, interface: &str, offloads: Offloads) -> Result<()> {
    firewall::strict_interface(netns, interface)?;
    match offloads {
        Offloads::Default => Ok(()),
        Offloads::TxOff => netns.offload(interface, "tx", false),
        Offloads::ForXdp => prepare_for_xdp(netns, interface),
    }
}

/// The bridge has a MAC of its own, as with the CNI plugin. Otherwise it takes the lowest MAC of its ports and
/// changes it when that port goes, which breaks the pods' neighbor entries.
fn bridge(netns: &Netns, index: u8, netfilter: bool) -> Result<()> {
    let gateway = addresses::pod(index, 1);
    netns.ip(&format!(
        "link add name cni0 address 02:00:0a:f4:{index:02x}:01 type bridge\nlink set cni0 up\n\
         addr add {}/24 dev cni0\naddr add {}/64 dev cni0 nodad",
        gateway.v4, gateway.v6
    ))?;
    firewall::bridge_netfilter(netns, netfilter)
}
