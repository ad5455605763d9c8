//! This node: the contents of its Node object and the addresses of its interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::name::IpFamily;

/// The parts of our Node object that affect the tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeInfo {
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`; an empty value counts as none.
    pub zone: Option<Arc<str>>,
    /// `status.addresses` that are IP addresses, InternalIP first.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`: the addresses of its pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Load balancers may send it new connections: its Node object exists and is not about to be removed (SEM-211).
    pub is_eligible: bool,
    /// It has the label `node.kubernetes.io/exclude-from-external-load-balancers`, or the condition NetworkUnavailable.
    pub is_excluded_from_load_balancers: bool,
    /// Select peers and advertisements of BGP. The tables do not depend on them.
    pub labels: Arc<BTreeMap<String, String>>,
}

impl NodeInfo {
    /// A node with a known name and nothing else.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            zone: None,
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            is_eligible: false,
            is_excluded_from_load_balancers: false,
            labels: Arc::default(),
        }
    }

    /// Its first address of a family.
    pub fn primary(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|&a| IpFamily::of(a) == family)
    }
}

/// The addresses currently assigned to this node's interfaces.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeAddresses {
    pub addrs: BTreeSet<IpAddr>,
    /// The preferred source of the default route, per family; used if no Node object has the node's address.
    pub primary_v4: Option<Ipv4Addr>,
    pub primary_v6: Option<Ipv6Addr>,
}

impl NodeAddresses {
    pub fn primary(&self, family: IpFamily) -> Option<IpAddr> {
        match family {
            IpFamily::V4 => self.primary_v4.map(IpAddr::V4),
            IpFamily::V6 => self.primary_v6.map(IpAddr::V6),
        }
    }
}
