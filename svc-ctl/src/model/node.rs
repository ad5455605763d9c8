//! This node: what its Node object says, and what its interfaces say.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::name::IpFamily;

/// The parts of our Node object that change the tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeInfo {
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`; an empty one counts as none.
    pub zone: Option<Arc<str>>,
    /// `status.addresses` that are IP addresses, InternalIP first.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`: where its pods get their addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// Load balancers may send it new connections: it is known and not about to go (SEM-211).
    pub is_eligible: bool,
}

impl NodeInfo {
    /// A node of which only the name is known.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            zone: None,
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            is_eligible: false,
        }
    }

    /// Its first address of a family.
    pub fn primary(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|&a| IpFamily::of(a) == family)
    }
}

/// The addresses assigned to this node's interfaces now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeAddresses {
    pub addrs: BTreeSet<IpAddr>,
    /// The preferred source of the default route, per family; used where no Node object tells the node's address.
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
