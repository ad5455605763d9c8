//! Fragments: only the first one of a packet has ports, the others find them here.

use super::{abi, family_abi};
use crate::addr::{Port, Proto};

/// What all fragments of a packet have in common (RFC 791, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FragmentKey<A> {
    pub src: A,
    pub dst: A,
    /// As it lies in the packet.
    pub id: u32,
    pub proto: Proto,
    pub _pad: [u8; 3],
}

/// The ports of the first one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FragmentPorts {
    pub sport: Port,
    pub dport: Port,
}

family_abi! { FragmentKey = 16, 40 }
abi! { FragmentPorts = 4 }
