//! Prefixes that the programs look addresses up in: source ranges, Service CIDRs, the pods of this node.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use svc_common::abi::{PrefixList, ServicePortId};

use super::tables::Prefix;
use crate::model::name::IpFamily;
use crate::model::node::{NodeAddresses, NodeInfo};
use crate::model::parse::parse_cidr;
use crate::model::service::ServiceAddresses;

/// CIDRs separated by commas, as a flag has them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cidrs(pub Vec<IpNet>);

impl FromStr for Cidrs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self::default()),
            list => list.split(',').map(parse_cidr).collect::<Result<_, _>>().map(Self),
        }
    }
}

/// The rule that recognises local pods (SEM-090).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum LocalPods {
    /// Clients that send by a pod interface.
    #[default]
    ByInterface,
    /// Sources within one of these.
    Within(Cidrs),
    /// Sources within the node's own `spec.podCIDRs`.
    OfNode,
    /// No client: local pods cannot be recognised.
    Unknown,
}

impl LocalPods {
    /// The prefixes of local pods, if pods are recognised by source address.
    pub fn prefixes<'a>(&'a self, node: &'a NodeInfo) -> &'a [IpNet] {
        match self {
            Self::ByInterface | Self::Unknown => &[],
            Self::Within(Cidrs(nets)) => nets,
            Self::OfNode => &node.pod_cidrs,
        }
    }

    /// Local pods of that family can be recognised. If not, no client is masqueraded for being no local pod (SEM-081).
    pub fn is_known(&self, node: &NodeInfo, family: IpFamily) -> bool {
        *self == Self::ByInterface || self.prefixes(node).iter().any(|net| IpFamily::of(net.addr()) == family)
    }
}

/// The prefixes of a list.
pub fn listed(list: PrefixList, nets: &[IpNet]) -> impl Iterator<Item = Prefix> {
    nets.iter().map(move |&net| Prefix { list, net })
}

/// The clients that may use a service port's load-balancer addresses. If this node may use them, the addresses
/// themselves are added: if an address is the node's, the node's own packets to it have it as their source (SEM-032).
pub fn source_ranges(service: ServicePortId, addresses: &ServiceAddresses, is_node_in: bool) -> Vec<Prefix> {
    let own = addresses.load_balancer_ips.iter().filter(|_| is_node_in).map(|&ip| IpNet::from(ip));
    let nets: Vec<IpNet> = addresses.source_ranges.iter().copied().chain(own).collect();
    listed(PrefixList::sources_of(service), &nets).collect()
}

/// This node's own address of the family is within the source ranges.
pub fn is_node_in_ranges(addresses: &ServiceAddresses, node: &NodeInfo, own: &NodeAddresses) -> bool {
    let family = addresses.family();
    let primary: Option<IpAddr> = node.primary(family).or_else(|| own.primary(family));
    primary.is_some_and(|ip| addresses.source_ranges.iter().any(|range| range.contains(&ip)))
}
