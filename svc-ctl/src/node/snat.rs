//! The address that masqueraded packets carry out of an interface (SEM-087), and the ports they use.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::roles::{Assignment, Role};
use super::{Interface, Interfaces};

/// NodePorts of a cluster that says nothing else (`--service-node-port-range` of the API server).
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// Sources of both families; unspecified where the node has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sources {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// Sources for an interface: its own first address of the family, else its bridge's, else the node's.
pub fn sources(
    i: &Interface,
    interfaces: &Interfaces,
    roles: &BTreeMap<u32, Assignment>,
    node: &[IpAddr],
) -> Sources {
    let bridge = i.master.and_then(|m| interfaces.list.iter().find(|b| b.index == m));
    let uplinks =
        interfaces.list.iter().filter(|u| roles.get(&u.index).is_some_and(|a| a.role == Role::Uplink));
    let candidates: Vec<IpAddr> = i
        .addrs
        .iter()
        .chain(bridge.iter().flat_map(|b| &b.addrs))
        .chain(node)
        .chain(uplinks.flat_map(|u| &u.addrs))
        .copied()
        .collect();
    let v4 = candidates.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None });
    let v6 = candidates.iter().find_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None });
    Sources { v4: v4.unwrap_or(Ipv4Addr::UNSPECIFIED), v6: v6.unwrap_or(Ipv6Addr::UNSPECIFIED) }
}

/// The longest run of ports from 1024 on that neither the host's ephemeral ports nor NodePorts use: first and count.
pub fn port_range(ephemeral: RangeInclusive<u16>) -> (u16, u16) {
    let mut taken = [ephemeral, NODE_PORTS];
    taken.sort_by_key(|r| *r.start());
    let (mut best, mut next) = ((0u16, 0u16), 1024u32);
    let ends =
        taken.iter().map(|r| (u32::from(*r.start()), u32::from(*r.end()) + 1)).chain([(65_536, 65_536)]);
    for (start, after) in ends {
        if start > next && start - next > u32::from(best.1) {
            best = (next as u16, (start - next) as u16);
        }
        next = next.max(after);
    }
    best
}

/// The host's ephemeral ports, as the kernel has them for this network namespace.
pub fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32_768..=60_999,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_avoids_ephemeral_and_node_ports() {
        assert_eq!(port_range(32_768..=60_999), (1024, 28_976));
        assert_eq!(port_range(1024..=40_000), (40_001, 25_535));
        assert_eq!(port_range(10_000..=65_535), (1024, 8_976));
    }

    #[test]
    fn an_interface_without_address_uses_its_bridge_then_the_node() {
        let addr = |s: &str| s.parse::<IpAddr>().unwrap();
        let bridge = Interface { index: 2, addrs: vec![addr("10.1.0.1")], ..Interface::default() };
        let port = Interface { index: 3, master: Some(2), ..Interface::default() };
        let interfaces = Interfaces { list: vec![bridge, port.clone()] };
        let s = sources(&port, &interfaces, &BTreeMap::new(), &[addr("192.0.2.1"), addr("2001:db8::1")]);
        assert_eq!((s.v4.to_string(), s.v6.to_string()), ("10.1.0.1".to_owned(), "2001:db8::1".to_owned()));
    }
}
