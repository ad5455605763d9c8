//! The addresses of the topology.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::family::Family;
use crate::netns::Netns;

pub const SERVICE_CIDR_V4: &str = "10.96.0.0/16";
pub const SERVICE_CIDR_V6: &str = "fd00:10:96::/112";
/// The pods of all nodes.
pub(super) const PODS_V4: &str = "10.244.0.0/16";
pub(super) const PODS_V6: &str = "fd00:10:244::/48";

/// The address of a dual stack host in either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addrs {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Addrs {
    pub fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

pub(super) const FRONT_GATEWAY: Addrs = front_host(254);
pub(super) const CLIENT: Addrs = front_host(9);

const fn front_host(last: u8) -> Addrs {
    Addrs { v4: Ipv4Addr::new(192, 0, 2, last), v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last as u16) }
}

/// A node's InternalIP, on the network that clients share.
pub(super) const fn front(node: u8) -> Addrs {
    front_host(node)
}

/// A node's address on the network between the nodes.
pub(super) const fn back(node: u8) -> Addrs {
    Addrs {
        v4: Ipv4Addr::new(198, 51, 100, node),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, node as u16),
    }
}

/// An address of a node's pod subnet; 1 is the bridge's.
pub(super) const fn pod(node: u8, last: u8) -> Addrs {
    Addrs {
        v4: Ipv4Addr::new(10, 244, node, last),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, node as u16, 0, 0, 0, last as u16),
    }
}

/// A ClusterIP in the service ranges.
pub const fn service(last: u8) -> Addrs {
    Addrs {
        v4: Ipv4Addr::new(10, 96, 0, last),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, last as u16),
    }
}

/// Duplicate address detection would make every IPv6 address unusable for its first second.
pub(super) fn no_waiting_for_dad(netns: &Netns) -> Result<()> {
    netns.sysctl(&[("net/ipv6/conf/all/accept_dad", "0"), ("net/ipv6/conf/default/accept_dad", "0")])
}
