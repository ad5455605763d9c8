//! Load-balancer addresses that this node answers for on its network, by ARP (RFC 826) and neighbor discovery (RFC 4861).

use super::abi;
use crate::addr::{AddrV4, AddrV6};

/// An address on an interface. An IPv4 address is `::ffff:a.b.c.d`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AnnouncedKey {
    pub addr: AddrV6,
    pub ifindex: u32,
}

impl AnnouncedKey {
    /// The key of an IPv4 address.
    #[inline(always)]
    pub const fn v4(addr: AddrV4, ifindex: u32) -> Self {
        let mapped = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
        Self { addr: AddrV6::from_be([0, 0, mapped, addr.be()]), ifindex }
    }

    /// The key of an IPv6 address.
    #[inline(always)]
    pub const fn v6(addr: AddrV6, ifindex: u32) -> Self {
        Self { addr, ifindex }
    }
}

/// How an address is answered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Announced {
    /// The answer: the interface's own link-layer address.
    pub mac: [u8; 6],
    pub state: AnnouncedState,
    pub _pad: u8,
}

/// Whether an address is answered.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AnnouncedState(pub u8);

impl AnnouncedState {
    /// Requests are answered.
    pub const ARMED: Self = Self(1);
    /// Another node of the cluster has announced the address: this one is silent until its daemon arms the entry again.
    pub const YIELDED: Self = Self(2);
}

/// The link-layer address of another node of the cluster. Only such a node makes this one yield.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeMac {
    pub octets: [u8; 6],
    pub _pad: [u8; 2],
}

abi! { AnnouncedKey = 20, Announced = 8, NodeMac = 8 }
