//! Which addresses of this node accept NodePorts (SEM-020 to SEM-023).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use svc_common::abi::AddressFlags;

use crate::model::name::IpFamily;
use crate::model::node::{NodeAddresses, NodeInfo};
use crate::model::parse::parse_cidr;

/// `--nodeport-addresses`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum NodePortAddresses {
    /// Every address of the node that is no loopback.
    #[default]
    All,
    /// The node's own address of each family.
    Primary,
    /// Those inside one of the ranges; a family that none of them names is not restricted (SEM-020).
    Within(Vec<IpNet>),
}

impl FromStr for NodePortAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self::All),
            "primary" => Ok(Self::Primary),
            list => list.split(',').map(parse_cidr).collect::<Result<_, _>>().map(Self::Within),
        }
    }
}

/// The addresses of the node with what each is good for.
pub fn plan_node_addresses(
    setting: &NodePortAddresses,
    node: &NodeInfo,
    addresses: &NodeAddresses,
) -> BTreeMap<IpAddr, AddressFlags> {
    let flags = |addr: IpAddr| {
        let accepts = !addr.is_loopback() && accepts_node_ports(setting, addr, node, addresses);
        AddressFlags(AddressFlags::LOCAL.0 | if accepts { AddressFlags::NODE_PORT.0 } else { 0 })
    };
    addresses.addrs.iter().map(|&addr| (addr, flags(addr))).collect()
}

fn accepts_node_ports(
    setting: &NodePortAddresses,
    addr: IpAddr,
    node: &NodeInfo,
    addresses: &NodeAddresses,
) -> bool {
    let family = IpFamily::of(addr);
    match setting {
        NodePortAddresses::All => true,
        NodePortAddresses::Primary => {
            let own = node.primary(family).or_else(|| addresses.primary(family));
            own.is_none_or(|own| own == addr)
        }
        NodePortAddresses::Within(ranges) => {
            let mut of_family = ranges.iter().filter(|r| IpFamily::of(r.addr()) == family).peekable();
            of_family.peek().is_none() || of_family.any(|r| r.contains(&addr))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(setting: &str) -> Vec<String> {
        let mut node = NodeInfo::named("node1");
        node.addresses = vec!["192.168.0.2".parse().unwrap()];
        let addrs = ["127.0.0.1", "192.168.0.2", "192.168.1.2", "::1", "2001:db8::1", "2001:db8:1::2"];
        let addresses = NodeAddresses {
            addrs: addrs.iter().map(|a| a.parse().unwrap()).collect(),
            primary_v4: Some("192.168.1.2".parse().unwrap()),
            primary_v6: Some("2001:db8::1".parse().unwrap()),
        };
        let planned = plan_node_addresses(&setting.parse().unwrap(), &node, &addresses);
        assert_eq!(planned.len(), 6);
        assert!(planned.values().all(|f| f.has(AddressFlags::LOCAL)));
        let accepting = planned.iter().filter(|(_, f)| f.has(AddressFlags::NODE_PORT));
        accepting.map(|(a, _)| a.to_string()).collect()
    }

    #[test]
    fn sem_020_sem_021_sem_025_node_ports_are_accepted_where_the_setting_says_and_never_at_loopback() {
        let (v4, v6) = (["192.168.0.2", "192.168.1.2"], ["2001:db8::1", "2001:db8:1::2"]);
        assert_eq!(accepted(""), [v4, v6].concat());
        assert_eq!(accepted("primary"), ["192.168.0.2", "2001:db8::1"]);
        assert_eq!(accepted("192.168.0.0/24"), ["192.168.0.2", v6[0], v6[1]]);
        assert_eq!(accepted("192.168.0.0/24, 2001:db8:1::2/128"), ["192.168.0.2", "2001:db8:1::2"]);
        assert_eq!(accepted("10.0.0.0/8,0.0.0.0/0,2001:db8::1/128"), [v4[0], v4[1], v6[0]]);
        assert!("192.168.0.0".parse::<NodePortAddresses>().is_err());
    }
}
