//! Fragments: only the first fragment of a packet has ports. The other fragments find them here.

use super::{abi, family_abi};
use crate::addr::{Port, Proto};

/// Fields that all fragments of a packet share (RFC 791, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FragmentKey<A> {
    pub src: A,
    pub dst: A,
    /// In the packet's byte order.
    pub id: u32,
    pub proto: Proto,
    pub _pad: [u8; 3],
}

/// The ports of the first fragment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FragmentPorts {
    pub sport: Port,
    pub dport: Port,
}

family_abi! { FragmentKey = 16, 40 }
abi! { FragmentPorts = 4 }
