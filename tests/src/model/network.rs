//! The network around the node of `packet::place`, independently of it: interfaces, addresses, routes. An IPv6
//! address ends with the four octets of its IPv4 counterpart.

use std::net::{IpAddr, Ipv4Addr};

use crate::packet::place::{self, Family, NARROW_MTU, mac};

/// The octets that identify an address of either family.
pub fn quad(addr: IpAddr) -> [u8; 4] {
    match addr {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(a) => {
            let o = a.octets();
            [o[12], o[13], o[14], o[15]]
        }
    }
}

/// The counterpart of an IPv4 address in a family.
pub fn at(octets: [u8; 4], is_v4: bool) -> IpAddr {
    place::in_family(Ipv4Addr::from(octets), if is_v4 { Family::V4 } else { Family::V6 })
}

/// The addresses of the node's interfaces: first uplink, second uplink, bridge.
pub const NODE: [[u8; 4]; 3] = [[192, 0, 2, 1], [198, 51, 100, 1], [10, 244, 1, 1]];

pub fn is_node(addr: IpAddr) -> bool {
    NODE.contains(&quad(addr))
}

/// Interfaces by which packets arrive, by the network behind them.
pub const UPLINKS: [&str; 3] = ["up0", "up1", "up2"];
pub const PODS: [&str; 4] = ["pod0", "pod1", "port0", "port1"];

pub fn is_pod(interface: &str) -> bool {
    PODS.contains(&interface)
}

/// A port of the bridge.
pub fn is_bridged(interface: &str) -> bool {
    interface.starts_with("port")
}

/// The node's own address towards the network behind an interface; `None` if it has none.
pub fn own(interface: &str, is_v4: bool) -> Option<IpAddr> {
    let octets = match interface {
        "up1" => NODE[1],
        "up2" => return None,
        "cni0" | "port0" | "port1" => NODE[2],
        _ => NODE[0],
    };
    Some(at(octets, is_v4))
}

/// Result of a route look-up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    pub interface: &'static str,
    /// MTU in octets; the interface's if the route has none.
    pub mtu: usize,
    /// The next hop's MAC, if known.
    pub mac: Option<[u8; 6]>,
}

/// `None`: there is no route.
pub fn route(to: IpAddr) -> Option<Route> {
    let via = |interface, last: Option<u8>| Some(Route { interface, mtu: 1500, mac: last.map(mac) });
    match quad(to) {
        [10, 244, 1, 130] => via("pod0", Some(0x20)),
        [10, 244, 1, 131] => via("pod1", Some(0x21)),
        [10, 244, 1, 20] => via("cni0", Some(0x22)),
        [10, 244, 1, 21] => via("cni0", Some(0x23)),
        [10, 244, 1, 0..128] => via("cni0", None),
        [10, 244, 2, _] => via("up0", Some(0x31)),
        [10, 244, 3, _] => via("up0", None),
        [10, 244, 4, _] => via("up0", Some(0x31)).map(|r| Route { mtu: NARROW_MTU.into(), ..r }),
        [10, 244, 5, _] => None,
        [10, 244, 6, _] => via("up1", Some(0x32)),
        [192, 0, 2, 2] => via("up0", Some(0x31)),
        [192, 0, 2, 254] => via("up0", Some(0xfe)),
        [192, 0, 2, _] => via("up0", None),
        [198, 51, 100, 2] => via("up1", Some(0x32)),
        [198, 51, 100, _] => via("up1", None),
        _ => via("up0", Some(0xfe)),
    }
}

/// The Service CIDR.
pub const SERVICE_CIDR: ([u8; 4], u8) = ([10, 96, 0, 0], 16);

pub fn is_cluster_ip(addr: IpAddr) -> bool {
    quad(addr)[..2] == SERVICE_CIDR.0[..2]
}

/// The pool of load-balancer addresses.
pub const POOL: ([u8; 4], u8) = ([198, 19, 0, 0], 16);

pub fn is_of_pool(addr: IpAddr) -> bool {
    quad(addr)[..2] == POOL.0[..2]
}

/// Packets from this interface are forwarded to other interfaces.
pub fn forwards(interface: &str) -> bool {
    interface != "up2"
}
