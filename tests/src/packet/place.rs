//! The network of the rows: a node with two uplinks, routed pods, bridged pods, and the hosts behind them.
//!
//! Every address is written as IPv4. Its IPv6 counterpart has the same four octets at the end of `fd00::`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The family a case runs for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    V4,
    V6,
}

/// Names of hosts in rows.
const HOSTS: &[(&str, [u8; 4])] = &[
    // The node: its uplinks (the first accepts NodePorts) and its bridge.
    ("node", [192, 0, 2, 1]),
    ("node-b", [198, 51, 100, 1]),
    ("bridge", [10, 244, 1, 1]),
    // Outside, behind the gateway of the first uplink.
    ("client", [203, 0, 113, 9]),
    ("other-client", [203, 0, 113, 10]),
    // A client outside whose packets have a routing table of their own: all by the second uplink.
    ("ruled", [203, 0, 113, 200]),
    ("gateway", [192, 0, 2, 254]),
    ("node-2", [192, 0, 2, 2]),
    ("node-3", [198, 51, 100, 2]),
    // Pods on routed links, pods on the bridge.
    ("pod-a", [10, 244, 1, 130]),
    ("pod-b", [10, 244, 1, 131]),
    ("port-a", [10, 244, 1, 20]),
    ("port-b", [10, 244, 1, 21]),
    // Pods of other nodes: plain; next hop without a MAC yet; narrow path; no route; by the second uplink.
    ("remote", [10, 244, 2, 10]),
    ("silent", [10, 244, 3, 10]),
    ("narrow", [10, 244, 4, 10]),
    ("nowhere", [10, 244, 5, 10]),
    ("far", [10, 244, 6, 10]),
    // Addresses of Services, and an unallocated one.
    ("vip", [10, 96, 0, 10]),
    ("other-vip", [10, 96, 0, 11]),
    ("unallocated", [10, 96, 1, 9]),
    ("stranger", [203, 0, 113, 77]),
    // Behind the tunnel. IPv4 and IPv6 addresses have their own Ethernet type in octets 12 and 13 of the header.
    ("tunnel-client", [8, 0, 0, 9]),
    ("tunnel-pod", [8, 0, 0, 10]),
    ("any", [0, 0, 0, 0]),
];

/// First octets of the addresses behind the tunnel in IPv4: an Ethernet type.
const TYPE_V4: [u8; 2] = [0x08, 0x00];
/// Third word of the counterparts in IPv6.
const TYPE_V6: u16 = 0x86dd;

/// Interfaces of the node: name, last octet of its MAC, last octet of the MAC of the default host behind it.
pub const INTERFACES: &[(&str, u8, u8)] = &[
    ("up0", 0x01, 0xfe),
    ("up1", 0x02, 0x32),
    // Forwarding is off on this one.
    ("up2", 0x03, 0x33),
    ("tunnel0", 0x04, 0x34),
    ("pod0", 0x10, 0x20),
    ("pod1", 0x11, 0x21),
    ("port0", 0x12, 0x22),
    ("port1", 0x13, 0x23),
    ("cni0", 0x14, 0x22),
];

/// Next hops: host, interface, last octet of its MAC, MTU of the path.
const HOPS: &[(&str, &str, u8, u16)] = &[
    ("gateway", "up0", 0xfe, 1500),
    ("remote", "up0", 0x31, 1500),
    ("narrow", "up0", 0x31, NARROW_MTU),
    ("far", "up1", 0x32, 1500),
    ("port-b", "cni0", 0x23, 1500),
    ("port-a", "cni0", 0x22, 1500),
    ("pod-a", "pod0", 0x20, 1500),
    ("pod-b", "pod1", 0x21, 1500),
];

/// Path MTU to `narrow`: the least that IPv6 allows.
pub const NARROW_MTU: u16 = 1280;

/// A next hop in a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hop {
    pub interface: &'static str,
    pub smac: [u8; 6],
    pub dmac: [u8; 6],
    pub mtu: u16,
}

pub fn hop(host: &str) -> Hop {
    match HOPS.iter().find(|(name, ..)| *name == host) {
        Some((_, interface, last, mtu)) => {
            Hop { interface, smac: macs(interface).0, dmac: mac(*last), mtu: *mtu }
        }
        None => panic!("{host} is no next hop"),
    }
}

pub const fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

/// MACs of an interface and of the host behind it.
pub fn macs(interface: &str) -> ([u8; 6], [u8; 6]) {
    match INTERFACES.iter().find(|(name, ..)| *name == interface) {
        Some((_, own, peer)) => (mac(*own), mac(*peer)),
        None => panic!("no interface {interface}"),
    }
}

pub fn address(host: &str, family: Family) -> IpAddr {
    match HOSTS.iter().find(|(name, _)| *name == host) {
        Some((_, octets)) => in_family(Ipv4Addr::from(*octets), family),
        None => panic!("no host is called {host}"),
    }
}

/// `HOST/BITS`: the prefix that leaves that many bits of the host's address open.
pub fn prefix(text: &str, family: Family) -> IpNet {
    let Some((host, Ok(open))) = text.split_once('/').map(|(host, bits)| (host, bits.parse::<u8>())) else {
        panic!("{text}: want HOST/BITS")
    };
    let addr = address(host, family);
    let length = if addr.is_ipv4() { 32 } else { 128 } - open;
    match IpNet::new(addr, length) {
        Ok(net) => net.trunc(),
        Err(error) => panic!("{text}: {error}"),
    }
}

/// The counterpart of an IPv4 address in a family.
pub fn in_family(v4: Ipv4Addr, family: Family) -> IpAddr {
    match family {
        Family::V4 => v4.into(),
        Family::V6 if v4.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
        Family::V6 => {
            let [a, b, c, d] = v4.octets();
            let pair = |x, y| u16::from_be_bytes([x, y]);
            let third = if [a, b] == TYPE_V4 { TYPE_V6 } else { 0 };
            Ipv6Addr::new(0xfd00, 0, third, 0, 0, 0, pair(a, b), pair(c, d)).into()
        }
    }
}

/// The name of an address, for messages.
pub fn name(addr: IpAddr) -> String {
    let family = if addr.is_ipv4() { Family::V4 } else { Family::V6 };
    let host = HOSTS.iter().find(|(_, octets)| in_family(Ipv4Addr::from(*octets), family) == addr);
    host.map_or_else(|| addr.to_string(), |(name, _)| (*name).to_owned())
}

/// Further input of `ip -4 -batch` or `ip -6 -batch`: the route of `ruled`.
pub fn rules(family: Family) -> String {
    let (ruled, hop) = (address("ruled", family), address("node-3", family));
    format!("rule add from {ruled} lookup 66\nroute add default via {hop} dev up1 table 66")
}

/// Input of `ip -batch` for the network: links, addresses, routes and neighbors of both families.
pub fn ip_batch() -> String {
    let mut lines = vec!["link set lo up".to_owned()];
    for (name, own, _) in INTERFACES {
        let mac = format!("02:00:00:00:00:{own:02x}");
        if *name == "cni0" {
            lines.push(format!("link add cni0 address {mac} type bridge"));
        } else {
            lines.push(format!("link add {name} address {mac} type veth peer name {name}-peer"));
            lines.push(format!("link set {name}-peer up"));
        }
        lines.push(format!("link set {name} up"));
    }
    for port in ["port0", "port1"] {
        lines.push(format!("link set {port} master cni0"));
    }
    for family in [Family::V4, Family::V6] {
        let (bits, prefix, default, quiet) = match family {
            Family::V4 => (0, "", "0.0.0.0/0", ""),
            Family::V6 => (96, "fd00::", "::/0", " nodad"),
        };
        let at = |host| address(host, family);
        for (host, device) in [("node", "up0"), ("node-b", "up1"), ("bridge", "cni0")] {
            let length = bits + if host == "bridge" { 25 } else { 24 };
            lines.push(format!("address add {}/{length} dev {device}{quiet}", at(host)));
        }
        for (host, device) in [("pod-a", "pod0"), ("pod-b", "pod1")] {
            // Otherwise IPv6 prefers the source address most similar to the pod's.
            lines.push(format!("route add {}/{} dev {device} src {}", at(host), bits + 32, at("node")));
        }
        lines.push(format!("route add {default} via {} dev up0", at("gateway")));
        for (net, rest) in [
            (2, format!("via {} dev up0", at("node-2"))),
            (3, format!("via {prefix}192.0.2.3 dev up0")),
            (4, format!("via {} dev up0 mtu lock {NARROW_MTU}", at("node-2"))),
            (6, format!("via {} dev up1", at("node-3"))),
        ] {
            lines.push(format!("route add {prefix}10.244.{net}.0/{} {rest}", bits + 24));
        }
        lines.push(format!("route add unreachable {prefix}10.244.5.0/{}", bits + 24));
        for (host, device, last) in [
            ("gateway", "up0", 0xfe),
            ("node-2", "up0", 0x31),
            ("node-3", "up1", 0x32),
            ("pod-a", "pod0", 0x20),
            ("pod-b", "pod1", 0x21),
            ("port-a", "cni0", 0x22),
            ("port-b", "cni0", 0x23),
        ] {
            let mac = format!("02:00:00:00:00:{last:02x}");
            lines.push(format!("neighbour replace {} lladdr {mac} dev {device} nud permanent", at(host)));
        }
    }
    lines.join("\n")
}
