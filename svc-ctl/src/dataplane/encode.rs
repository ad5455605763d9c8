//! Converts addresses between the daemon's types and the tables'.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_common::abi::MapAddr;
use svc_common::addr::{AddrV4, AddrV6};

/// An address in a family's maps.
pub trait Encode: MapAddr {
    fn to_ip(self) -> IpAddr;
}

impl Encode for AddrV4 {
    fn to_ip(self) -> IpAddr {
        Ipv4Addr::from(self.octets()).into()
    }
}

impl Encode for AddrV6 {
    fn to_ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets()).into()
    }
}

pub fn v4(addr: Ipv4Addr) -> AddrV4 {
    AddrV4::new(addr.octets())
}

pub fn v6(addr: Ipv6Addr) -> AddrV6 {
    AddrV6::new(addr.octets())
}
