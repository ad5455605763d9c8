//! The node: its interfaces and addresses as they change, the role of each interface, and its cgroup.

pub mod cgroup;
pub mod neighbors;
pub mod netns;
pub mod roles;
pub mod routes;
pub mod snat;
pub mod snat_ports;
pub mod watch;

use std::net::IpAddr;

use ipnet::IpNet;

/// An interface, as netlink reports it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub is_up: bool,
    /// It has a link: a cable, or another end that is up.
    pub has_carrier: bool,
    pub is_loopback: bool,
    /// Packets have an Ethernet header.
    pub is_ethernet: bool,
    pub is_bridge: bool,
    /// Index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Index of the interface below this VLAN, if that is in this network namespace.
    pub vlan_over: Option<u32>,
    /// A pair whose other end is in another network namespace: a pod's, or the machine's if this node is a container.
    pub has_peer_elsewhere: bool,
    /// Global addresses, in the kernel's order: primary ones first, deprecated ones last.
    pub addrs: Vec<IpAddr>,
    /// The networks of such addresses, in the same order: those with a prefix shorter than the address.
    pub subnets: Vec<IpNet>,
    pub has_default_route: bool,
    /// A route through a gateway leaves by this end of a pair.
    pub has_router: bool,
    /// The lowest address with a route by this end of a pair and without a gateway.
    pub routed_host: Option<IpAddr>,
    /// MTU in octets.
    pub mtu: u32,
    /// Link-layer address; zero if it does not have six octets.
    pub mac: [u8; 6],
    /// Kernel driver (`veth`, `bridge`, ...); empty if the kernel does not report one.
    pub kind: String,
}

/// Interfaces on which IPVS proxies (kube-proxy, kube-router) keep the addresses of all Services. They remain after
/// the proxy is gone.
const IPVS: [&str; 2] = ["kube-ipvs0", "kube-dummy-if"];

impl Interface {
    /// Its addresses belong to Services and not to the node.
    pub fn is_of_another_proxy(&self) -> bool {
        IPVS.contains(&self.name.as_str())
    }
}

/// A sysctl of this network namespace, by its path below `/proc/sys`; `None` if the kernel does not have it.
pub fn sysctl(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/sys/{path}")).ok()?.trim().to_owned())
}

/// All interfaces at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interfaces {
    pub list: Vec<Interface>,
    /// An IPv4 route has a smaller MTU than its interface, and `bpf_fib_lookup` does not report it.
    pub has_narrow_route: bool,
    /// A rule of policy routing names a source.
    pub routes_by_source: bool,
    /// A rule of policy routing chooses another table than the usual ones by a packet's mark. svc routes before netfilter sets
    /// marks.
    pub routes_by_mark: bool,
}

impl Interfaces {
    /// The interface has VLANs, which own some of its frames.
    pub fn carries_vlans(&self, index: u32) -> bool {
        self.list.iter().any(|i| i.vlan_over == Some(index))
    }
}
