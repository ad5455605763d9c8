//! Addresses between the daemon's words and the tables'.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_common::abi::MapAddr;
use svc_common::addr::{AddrV4, AddrV6};

/// An address that a family's maps hold.
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
