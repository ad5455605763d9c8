//! Routes to announce.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::settings::Community;
use crate::model::name::IpFamily;

/// Attributes that the configuration gives to a route. The session adds all others.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Attributes {
    pub communities: BTreeSet<Community>,
    /// Sent only within the own autonomous system.
    pub local_preference: Option<u32>,
}

/// All routes for one peer.
pub type Routes = BTreeMap<IpNet, Attributes>;

/// The addresses of this node that its peers send packets to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NextHops {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    /// The address of a session over a link-local address, beside `v6`.
    pub link_local: Option<Ipv6Addr>,
}

impl NextHops {
    /// The session's own address for its family, and the node's for the other one.
    #[must_use]
    pub const fn of_session(self, local: IpAddr) -> Self {
        match local {
            IpAddr::V4(ip) => Self { v4: Some(ip), ..self },
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Self { link_local: Some(ip), ..self },
            IpAddr::V6(ip) => Self { v6: Some(ip), ..self },
        }
    }

    /// Routes of the family have a next hop.
    pub const fn has(&self, family: IpFamily) -> bool {
        match family {
            IpFamily::V4 => self.v4.is_some(),
            IpFamily::V6 => self.v6.is_some(),
        }
    }
}

pub fn family_of(prefix: &IpNet) -> IpFamily {
    IpFamily::of(prefix.addr())
}
