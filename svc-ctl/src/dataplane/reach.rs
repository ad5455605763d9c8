//! Location of an address, according to the kernel: the interface of its route, its neighbor, its port of a bridge.

use std::io;
use std::net::{IpAddr, SocketAddr};

use svc_common::addr::Proto;

use super::netlink::{NLM_F_ACK, NLM_F_DUMP, attribute, exchange, message, push_attribute, word};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_IIF: u16 = 3;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_IP_PROTO: u16 = 27;
const RTA_SPORT: u16 = 28;
const RTA_DPORT: u16 = 29;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const RTN_LOCAL: u8 = 2;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTN_PROHIBIT: u8 = 8;
const AF_BRIDGE: u8 = 7;
/// Octets of `struct rtmsg` and `struct ndmsg`.
const HEAD: usize = 12;
/// Offset of the kind in `struct rtmsg`, and of the interface index in `struct ndmsg`.
const RTMSG_KIND: usize = 7;
const NDMSG_INDEX: usize = 4;

/// The route to an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// The address is one of this node.
    pub is_local: bool,
    pub oif: u32,
    /// The router of the route. `None`: the address itself is the neighbor, or the router is of the other family.
    pub gateway: Option<IpAddr>,
}

/// In network byte order.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `None`: octets of no length that an address has.
fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from).ok();
    v4.or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
}

const fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

/// A packet that the kernel routes.
#[derive(Clone, Copy, Debug)]
pub struct RoutedPacket {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub proto: Proto,
    /// The interface by which it came; `None`: this node sends it.
    pub iif: Option<u32>,
}

/// The route by which this node would send to an address. Without a route: an error of the kernel (`ENETUNREACH`).
pub fn route_to(address: IpAddr) -> io::Result<Route> {
    ask_route(&request(address, &[]))
}

/// The route of a packet, by all fields that the kernel's rules may match, except the mark. Without a route: an error
/// of the kernel.
pub fn route_of(packet: &RoutedPacket) -> io::Result<Route> {
    let mut attributes = vec![
        (RTA_SRC, octets(packet.from.ip())),
        (RTA_IP_PROTO, vec![packet.proto.0]),
        (RTA_SPORT, packet.from.port().to_be_bytes().to_vec()),
        (RTA_DPORT, packet.to.port().to_be_bytes().to_vec()),
    ];
    attributes.extend(packet.iif.map(|iif| (RTA_IIF, iif.to_ne_bytes().to_vec())));
    match ask_route(&request(packet.to.ip(), &attributes)) {
        // The kernel accepts no such request for SCTP (`rtm_getroute_parse_ip_proto`).
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            attributes.retain(|(kind, _)| ![RTA_IP_PROTO, RTA_SPORT, RTA_DPORT].contains(kind));
            ask_route(&request(packet.to.ip(), &attributes))
        }
        answer => answer,
    }
}

/// The body of a request for a route: `struct rtmsg`, the destination and these attributes.
fn request(to: IpAddr, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let to_octets = octets(to);
    let bits = (to_octets.len() * 8) as u8;
    let source_bits = if attributes.iter().any(|(kind, _)| *kind == RTA_SRC) { bits } else { 0 };
    let mut body = vec![family(to), bits, source_bits];
    body.resize(HEAD, 0);
    for (kind, value) in [(RTA_DST, to_octets)].iter().chain(attributes) {
        push_attribute(&mut body, *kind, value);
    }
    body
}

fn ask_route(body: &[u8]) -> io::Result<Route> {
    let mut route = None;
    exchange(libc::NETLINK_ROUTE, &message(RTM_GETROUTE, NLM_F_ACK, body), |kind, body| {
        let (Some(kind_of_route), Some(rest)) = (body.get(RTMSG_KIND), body.get(HEAD..)) else { return };
        if kind == RTM_NEWROUTE
            && let Some(oif) = attribute(rest, RTA_OIF).and_then(|value| word(value, 0))
        {
            route = Some((*kind_of_route, oif, attribute(rest, RTA_GATEWAY).and_then(address)));
        }
    })?;
    match route {
        None => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
        // IPv6 answers with such a route, IPv4 with an error.
        Some((RTN_BLACKHOLE, ..)) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        Some((RTN_UNREACHABLE, ..)) => Err(io::Error::from_raw_os_error(libc::EHOSTUNREACH)),
        Some((RTN_PROHIBIT, ..)) => Err(io::Error::from_raw_os_error(libc::EACCES)),
        Some((kind, oif, gateway)) => Ok(Route { is_local: kind == RTN_LOCAL, oif, gateway }),
    }
}

/// The link-layer address of a neighbor behind an interface, if the kernel has resolved it.
pub fn neighbor(address: IpAddr, ifindex: u32) -> io::Result<Option<[u8; 6]>> {
    let mut found = None;
    each_neighbor(family(address), |index, destination, mac| {
        if index == ifindex && destination == Some(&*octets(address)) {
            found = Some(mac);
        }
    })?;
    Ok(found)
}

/// The ports of bridges behind which a link-layer address was seen.
pub fn bridge_ports(mac: [u8; 6]) -> io::Result<Vec<u32>> {
    let mut ports = Vec::new();
    each_neighbor(AF_BRIDGE, |index, _, found| {
        if found == mac {
            ports.push(index);
        }
    })?;
    Ok(ports)
}

fn each_neighbor(family: u8, mut each: impl FnMut(u32, Option<&[u8]>, [u8; 6])) -> io::Result<()> {
    let mut head = [0; HEAD];
    if let Some(first) = head.first_mut() {
        *first = family;
    }
    exchange(libc::NETLINK_ROUTE, &message(RTM_GETNEIGH, NLM_F_DUMP, &head), |kind, body| {
        let (Some(index), Some(rest)) = (word(body, NDMSG_INDEX), body.get(HEAD..)) else { return };
        let mac = attribute(rest, NDA_LLADDR).and_then(|mac| mac.try_into().ok());
        if kind == RTM_NEWNEIGH
            && let Some(mac) = mac
        {
            each(index, attribute(rest, NDA_DST), mac);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_addresses_are_local() {
        for address in ["127.0.0.1", "::1"] {
            let route = route_to(address.parse().unwrap());
            // A host without IPv6 has no such route.
            assert!(route.is_ok_and(|route| route.is_local) || address == "::1", "{address}");
        }
    }

    #[test]
    fn an_address_without_neighbor_entry_is_unresolved() {
        assert_eq!(neighbor("192.0.2.99".parse().unwrap(), 1).unwrap(), None);
        assert_eq!(bridge_ports([2, 0, 0, 0, 0, 99]).unwrap(), Vec::<u32>::new());
    }
}
