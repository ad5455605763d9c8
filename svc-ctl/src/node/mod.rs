//! This node: its interfaces and addresses, live, the one role each interface has, and its cgroup.

pub mod cgroup;
pub mod netns;
pub mod roles;
pub mod routes;
pub mod snat;
pub mod snat_ports;
pub mod watch;

use std::net::IpAddr;

use ipnet::IpNet;

/// An interface as the kernel tells it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub is_up: bool,
    pub is_loopback: bool,
    /// Packets carry an Ethernet header.
    pub is_ethernet: bool,
    pub is_bridge: bool,
    /// Index of the interface it is a port of (bridge, bond).
    pub master: Option<u32>,
    /// Index of the interface that it is a VLAN of, if that is in this network namespace.
    pub vlan_over: Option<u32>,
    /// One end of a pair whose other end is in another network namespace: a pod's, or the machine's around this node.
    pub has_peer_elsewhere: bool,
    /// Global addresses, in the kernel's order: primary ones first, deprecated ones last.
    pub addrs: Vec<IpAddr>,
    /// The network of the first such address that is one of many in it.
    pub subnet: Option<IpNet>,
    pub has_default_route: bool,
    /// Routes by a router leave by this end of a pair.
    pub has_router: bool,
    /// The lowest address that a route leads to by this end of a pair, without a router.
    pub neighbour: Option<IpAddr>,
    /// Octets of the largest packet that it takes.
    pub mtu: u32,
    /// Link-layer address; zero where there is none of six octets.
    pub mac: [u8; 6],
    /// Kernel driver (`veth`, `bridge`, ...) where the kernel tells it.
    pub kind: String,
}

/// Interfaces on which proxies with IPVS keep the addresses of all Services: kube-proxy's and kube-router's. They stay when
/// the proxy goes.
const IPVS: [&str; 2] = ["kube-ipvs0", "kube-dummy-if"];

impl Interface {
    /// Its addresses are not the node's own, whatever the kernel says.
    pub fn is_of_another_proxy(&self) -> bool {
        IPVS.contains(&self.name.as_str())
    }
}

/// A setting of this network namespace, by its path below `/proc/sys`; `None` where the kernel has none.
pub fn sysctl(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/sys/{path}")).ok()?.trim().to_owned())
}

/// All interfaces at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interfaces {
    pub list: Vec<Interface>,
    /// An IPv4 route of the main table takes less than its interface, and `bpf_fib_lookup` does not say so.
    pub has_narrow_route: bool,
}

impl Interfaces {
    /// Some of its frames are another interface's: those of a VLAN.
    pub fn carries_vlans(&self, index: u32) -> bool {
        self.list.iter().any(|i| i.vlan_over == Some(index))
    }
}
