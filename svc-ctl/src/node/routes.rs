//! Routes and rules of policy routing, as far as they help to recognise an interface, its MTU, or the way of masqueraded
//! packets.

use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

/// `RTAX_MTU` in the set of locked metrics (linux/rtnetlink.h).
const MTU_LOCK: u32 = 1 << 2;

/// local, main and default (`rt_tables`).
const USUAL_TABLES: [u32; 3] = [255, 254, 253];

/// The part of a route that distinguishes an uplink from a pod's interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fact {
    Default,
    /// To a network through a gateway.
    ByGateway,
    /// To a single address without a gateway.
    ToHost(IpAddr),
}

/// The fact in a route of the main table, and the interfaces that it is about. A route to a connected network has none:
/// the interface's address has the same effect.
pub fn fact(route: &RouteMessage) -> Option<(Fact, Vec<u32>)> {
    let RouteHeader { table, kind, destination_prefix_length: length, .. } = route.header;
    if table != RouteHeader::RT_TABLE_MAIN || kind != RouteType::Unicast {
        return None;
    }
    let (mut destination, mut has_gateway) = (None, false);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                has_gateway = true;
            }
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = Some(IpAddr::V6(*ip)),
            _ => {}
        }
    }
    let fact = match destination {
        _ if length == 0 => Fact::Default,
        _ if has_gateway => Fact::ByGateway,
        Some(ip) if is_host(ip, length) && !is_link_local(ip) => Fact::ToHost(ip),
        _ => return None,
    };
    Some((fact, interfaces_of(route)))
}

/// The MTU of an IPv4 route of any table, and its outgoing interfaces. Locked MTUs and those of IPv6 routes are
/// left out: `bpf_fib_lookup` reports them.
pub fn own_mtu(route: &RouteMessage) -> Option<(u32, Vec<u32>)> {
    let RouteHeader { address_family, kind, .. } = route.header;
    if address_family != AddressFamily::Inet || kind != RouteType::Unicast {
        return None;
    }
    let metrics = || {
        let lists = route.attributes.iter();
        lists.filter_map(|a| if let RouteAttribute::Metrics(list) = a { Some(list) } else { None }).flatten()
    };
    let is_locked = metrics().any(|metric| matches!(metric, RouteMetric::Lock(bits) if bits & MTU_LOCK != 0));
    let mtu =
        metrics().find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(*mtu) } else { None })?;
    (!is_locked).then(|| (mtu, interfaces_of(route)))
}

/// Packets with a mark are routed by a table of their own. A rule for all packets without a mark (`not fwmark`: WireGuard) is
/// left out: svc asks for a route without one.
pub fn is_by_mark(rule: &RuleMessage) -> bool {
    let find = |wanted: fn(&RuleAttribute) -> Option<u32>| rule.attributes.iter().find_map(wanted);
    let mark = find(|a| if let RuleAttribute::FwMark(mark) = a { Some(*mark) } else { None });
    let table = find(|a| if let RuleAttribute::Table(table) = a { Some(*table) } else { None });
    let table = table.unwrap_or_else(|| rule.header.table.into());
    mark.is_some_and(|mark| mark != 0)
        && rule.header.action == RuleAction::ToTable
        && !rule.header.flags.contains(RuleFlags::Invert)
        && !USUAL_TABLES.contains(&table)
}

fn interfaces_of(route: &RouteMessage) -> Vec<u32> {
    let of = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    };
    route.attributes.iter().flat_map(of).collect()
}

const fn is_host(ip: IpAddr, length: u8) -> bool {
    length == if ip.is_ipv4() { 32 } else { 128 }
}

/// Link-local addresses are the same on every link (cloud metadata service, gateway of a pod).
const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use rtnetlink::RouteMessageBuilder;

    use super::*;

    fn v4(destination: &str, length: u8, gateway: Option<&str>) -> RouteMessage {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination.parse().unwrap(), length)
            .output_interface(7);
        match gateway {
            Some(gateway) => route.gateway(gateway.parse().unwrap()).build(),
            None => route.build(),
        }
    }

    fn v6(destination: &str, length: u8) -> RouteMessage {
        let destination: Ipv6Addr = destination.parse().unwrap();
        RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(destination, length)
            .output_interface(7)
            .build()
    }

    #[test]
    fn default_routes_routers_and_neighbors_are_distinguished() {
        let routed_host = |ip: &str| Some(Fact::ToHost(ip.parse().unwrap()));
        let rows = [
            (v4("0.0.0.0", 0, Some("192.0.2.254")), Some(Fact::Default)),
            (v4("0.0.0.0", 0, None), Some(Fact::Default)),
            (v4("10.244.2.0", 24, Some("192.0.2.2")), Some(Fact::ByGateway)),
            (v4("198.51.100.7", 32, Some("192.0.2.2")), Some(Fact::ByGateway)),
            (v4("10.244.1.10", 32, None), routed_host("10.244.1.10")),
            (v4("192.0.2.0", 24, None), None),
            (v4("169.254.169.254", 32, None), None),
            (v6("fd00::a", 128), routed_host("fd00::a")),
            (v6("fe80::1", 128), None),
            (v6("fe80::", 64), None),
        ];
        for (route, expected) in rows {
            assert_eq!(fact(&route), expected.map(|fact| (fact, vec![7])), "{route:?}");
        }
    }

    #[test]
    fn a_rule_is_by_mark_if_it_leads_marked_packets_to_a_table_of_their_own() {
        let rule = |mark: u32, table: u32, flags| {
            let mut rule = RuleMessage::default();
            rule.header.action = RuleAction::ToTable;
            rule.header.flags = flags;
            rule.attributes = vec![RuleAttribute::FwMark(mark), RuleAttribute::Table(table)];
            rule
        };
        assert!(is_by_mark(&rule(7, 125, RuleFlags::default())));
        // The AWS VPC CNI sends marked packets to the main table.
        assert!(!is_by_mark(&rule(0x80, 254, RuleFlags::default())));
        // wg-quick sends all packets but its own to a table.
        assert!(!is_by_mark(&rule(0xca6c, 51_820, RuleFlags::Invert)));
        assert!(!is_by_mark(&RuleMessage::default()));
    }

    #[test]
    fn an_ipv4_route_has_an_mtu_by_its_metrics_unless_it_is_locked() {
        let with = |mut route: RouteMessage, metrics| {
            route.attributes.push(RouteAttribute::Metrics(metrics));
            own_mtu(&route)
        };
        let to_pods = || v4("10.244.2.0", 24, Some("192.0.2.2"));
        let mtu = || vec![RouteMetric::Advmss(1_360), RouteMetric::Mtu(1_400)];
        assert_eq!(with(to_pods(), mtu()), Some((1_400, vec![7])));
        let mut by_rule = to_pods();
        by_rule.header.table = 126;
        assert_eq!(with(by_rule, mtu()), Some((1_400, vec![7])));
        assert_eq!(with(to_pods(), [mtu(), vec![RouteMetric::Lock(MTU_LOCK)]].concat()), None);
        assert_eq!(with(to_pods(), vec![RouteMetric::Advmss(1_360)]), None);
        assert_eq!(with(v6("fd00::", 64), mtu()), None);
        assert_eq!(own_mtu(&v4("0.0.0.0", 0, None)), None);
    }

    #[test]
    fn other_tables_and_kinds_of_routes_are_ignored() {
        let mut other_table = v4("0.0.0.0", 0, None);
        other_table.header.table = 2;
        let mut blackhole = v4("0.0.0.0", 0, None);
        blackhole.header.kind = RouteType::BlackHole;
        assert_eq!([fact(&other_table), fact(&blackhole)], [None, None]);
    }
}
