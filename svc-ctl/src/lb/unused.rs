//! The ranges of pools as prefixes, for the drop of packets to addresses that no Service has. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::pool::Pools;
use super::range::number;
use crate::model::name::IpFamily;

/// The prefixes of all pools without the addresses of nodes: a pool that holds one is in error, and the node must stay reachable.
pub fn ranges(pools: &Pools, of_nodes: &BTreeSet<IpAddr>) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (family, first, last) in pools.ranges() {
        let mut begin = Some(first);
        let nodes = of_nodes.iter().filter(|ip| IpFamily::of(**ip) == family).map(|ip| number(*ip));
        for node in nodes.filter(|node| (first..=last).contains(node)) {
            if let (Some(begin), Some(end)) = (begin, node.checked_sub(1)) {
                nets.extend(prefixes(family, begin, end));
            }
            begin = node.checked_add(1);
        }
        nets.extend(begin.into_iter().flat_map(|begin| prefixes(family, begin, last)));
    }
    nets
}

/// The fewest prefixes with exactly these addresses; none if they are backwards.
fn prefixes(family: IpFamily, first: u128, last: u128) -> Vec<IpNet> {
    match family {
        _ if first > last => Vec::new(),
        IpFamily::V4 => {
            let of = |number: u128| Ipv4Addr::from(number as u32);
            Ipv4Subnets::new(of(first), of(last), 0).map(IpNet::V4).collect()
        }
        IpFamily::V6 => {
            Ipv6Subnets::new(Ipv6Addr::from(first), Ipv6Addr::from(last), 0).map(IpNet::V6).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::settings::LoadBalancerSettings;

    #[test]
    fn sem_315_pools_are_covered_by_prefixes_that_leave_out_nodes() {
        for (addresses, nodes, expected) in [
            ("192.0.2.64/28", "", "192.0.2.64/28"),
            ("192.0.2.9-192.0.2.12", "", "192.0.2.9/32 192.0.2.10/31 192.0.2.12/32"),
            ("192.0.2.8/30", "192.0.2.8", "192.0.2.9/32 192.0.2.10/31"),
            ("192.0.2.8/30", "192.0.2.11 192.0.2.200", "192.0.2.8/31 192.0.2.10/32"),
            ("192.0.2.8/30", "192.0.2.9 192.0.2.10", "192.0.2.8/32 192.0.2.11/32"),
            ("192.0.2.8/32", "192.0.2.8", ""),
            ("2001:db8::100/120", "192.0.2.8", "2001:db8::100/120"),
            ("2001:db8::8/126", "2001:db8::9", "2001:db8::8/128 2001:db8::a/127"),
        ] {
            let section = format!("{{pools: [{{name: a, addresses: ['{addresses}']}}]}}");
            let settings = LoadBalancerSettings::read(serde_yaml_ng::from_str(&section).unwrap()).0;
            let nodes = nodes.split_whitespace().map(|ip| ip.parse().unwrap()).collect();
            let found: Vec<String> =
                ranges(&settings.pools, &nodes).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expected, "{addresses} without {nodes:?}");
        }
    }
}
