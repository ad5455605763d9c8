//! Decides which addresses of this node accept NodePorts (SEM-020 to SEM-025).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use svc_common::abi::AddressFlags;

use crate::model::name::IpFamily;
use crate::model::node::{NodeAddresses, NodeInfo};
use crate::model::parse::parse_cidr;

/// `--nodeport-addresses`: CIDRs and words. An address accepts NodePorts if any of them has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodePortAddresses {
    /// `all`: every address of the node that is no loopback. So does an empty list.
    pub all: bool,
    /// `primary`: the node's own address of each family.
    pub primary: bool,
    /// `localhost`: the loopback addresses, for processes of the node alone.
    pub localhost: bool,
    pub ranges: Vec<IpNet>,
}

impl NodePortAddresses {
    /// The word `primary` alone.
    pub fn primary() -> Self {
        Self { primary: true, ..Self::default() }
    }

    /// Whether every address that is no loopback accepts NodePorts.
    pub fn is_everywhere(&self) -> bool {
        self.all || !(self.primary || self.localhost || !self.ranges.is_empty())
    }

    /// Words and CIDRs, as they are typed.
    pub fn words(&self) -> Vec<String> {
        let words = [(self.all, "all"), (self.primary, "primary"), (self.localhost, "localhost")];
        let given = words.into_iter().filter(|(is_given, _)| *is_given).map(|(_, word)| word.to_owned());
        given.chain(self.ranges.iter().map(ToString::to_string)).collect()
    }

    /// A word restricts both families, a CIDR its own alone (SEM-020).
    fn accepts(&self, addr: IpAddr, node: &NodeInfo, addresses: &NodeAddresses) -> bool {
        let family = IpFamily::of(addr);
        let mut of_family =
            self.ranges.iter().filter(|range| IpFamily::of(range.addr()) == family).peekable();
        let is_restricted = self.primary || self.localhost || of_family.peek().is_some();
        let own = || node.primary(family).or_else(|| addresses.primary(family));
        self.all
            || !is_restricted
            || (self.primary && own().is_none_or(|own| own == addr))
            || of_family.any(|range| range.contains(&addr))
    }
}

impl FromStr for NodePortAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut addresses = Self::default();
        if text.trim().is_empty() {
            return Ok(addresses);
        }
        for word in text.split(',') {
            match word.trim() {
                "all" => addresses.all = true,
                "primary" => addresses.primary = true,
                "localhost" => addresses.localhost = true,
                _ => addresses.ranges.push(
                    parse_cidr(word).map_err(|error| format!("{error} (a CIDR, all, primary, localhost)"))?,
                ),
            }
        }
        Ok(addresses)
    }
}

/// The addresses of the node with their flags.
pub fn plan_node_addresses(
    setting: &NodePortAddresses,
    node: &NodeInfo,
    addresses: &NodeAddresses,
) -> BTreeMap<IpAddr, AddressFlags> {
    let node_ports = |addr: IpAddr| match addr.is_loopback() {
        true if setting.localhost && is_localhost(addr) => AddressFlags::NODE_PORT_OF_HOST.0,
        false if setting.accepts(addr, node, addresses) => AddressFlags::NODE_PORT.0,
        _ => 0,
    };
    let flags = |addr: IpAddr| AddressFlags(AddressFlags::LOCAL.0 | node_ports(addr));
    // Addresses of the node are global ones; these two every node has.
    let localhost = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let localhost = localhost.into_iter().filter(|_| setting.localhost);
    addresses.addrs.iter().copied().chain(localhost).map(|addr| (addr, flags(addr))).collect()
}

/// The address that the name has, and no other loopback address.
fn is_localhost(addr: IpAddr) -> bool {
    addr == Ipv4Addr::LOCALHOST || addr == Ipv6Addr::LOCALHOST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(setting: &str) -> Vec<String> {
        with_flag(setting, AddressFlags::NODE_PORT)
    }

    fn with_flag(setting: &str, flag: AddressFlags) -> Vec<String> {
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
        let accepting = planned.iter().filter(|(_, f)| f.has(flag));
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
        assert_eq!(accepted("all,10.0.0.0/8"), [v4, v6].concat());
        assert_eq!(accepted("primary,192.168.1.0/24"), [v4[0], v4[1], v6[0]]);
        for text in ["192.168.0.0", "everywhere", "primary,"] {
            assert!(text.parse::<NodePortAddresses>().is_err(), "{text}");
        }
    }

    #[test]
    fn sem_025_localhost_accepts_node_ports_of_the_node_alone_and_restricts_both_families() {
        for (setting, elsewhere) in [("localhost", vec![]), ("localhost,192.168.0.0/24", vec!["192.168.0.2"])]
        {
            assert_eq!(accepted(setting), elsewhere, "{setting}");
            assert_eq!(with_flag(setting, AddressFlags::NODE_PORT_OF_HOST), ["127.0.0.1", "::1"]);
        }
        assert_eq!(accepted("localhost,all"), accepted(""));
        assert_eq!(with_flag("all", AddressFlags::NODE_PORT_OF_HOST), [""; 0]);
    }

    #[test]
    fn localhost_needs_no_interface_that_names_it() {
        let setting = "localhost".parse().unwrap();
        let planned = plan_node_addresses(&setting, &NodeInfo::named("n"), &NodeAddresses::default());
        let accepting = planned.iter().filter(|(_, flags)| flags.has(AddressFlags::NODE_PORT_OF_HOST));
        assert_eq!(accepting.map(|(addr, _)| addr.to_string()).collect::<Vec<_>>(), ["127.0.0.1", "::1"]);
    }

    #[test]
    fn an_address_list_is_shown_as_it_was_typed() {
        for text in ["", "primary", "all,primary,localhost,10.0.0.0/8,fd00::/8"] {
            assert_eq!(text.parse::<NodePortAddresses>().unwrap().words().join(","), text);
        }
    }
}
