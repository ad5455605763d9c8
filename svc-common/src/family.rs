//! The two address families as types. All differences between IPv4 and IPv6 are here and in `wire`.

use core::fmt::Debug;
use core::hash::Hash;

use crate::addr::{AddrV4, AddrV6};
use crate::half_sip::HalfSip;
use crate::wire::checksum::Wsum;

/// An address family.
pub trait Family: Copy + Clone + Debug + Default + Eq + Hash + Ord + 'static {
    /// Its addresses.
    type Addr: Copy + Clone + Debug + Default + Eq + Hash + Ord + 'static;
    /// Ethernet type, host order.
    const ETHERTYPE: u16;
    /// `AF_INET` or `AF_INET6`.
    const AF: u8;
    /// Octets of the fixed IP header.
    const IP_LEN: usize;
    /// IPv4 has a header checksum.
    const HAS_L3_CHECKSUM: bool;
    /// Offset of the source address in the IP header; the destination follows it.
    const SRC_OFFSET: usize;
    /// Octets of an address.
    const ADDR_LEN: usize;
    /// Sum of an address for a checksum delta.
    fn sum(addr: Self::Addr) -> Wsum;
    /// 32 bits of an address, for a hash.
    fn fold(addr: Self::Addr) -> u32;
    /// Adds an address to a keyed hash.
    fn absorb(state: HalfSip, addr: Self::Addr) -> HalfSip;
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct V4;
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct V6;

impl Family for V4 {
    type Addr = AddrV4;
    const ETHERTYPE: u16 = 0x0800;
    const AF: u8 = 2;
    const IP_LEN: usize = 20;
    const HAS_L3_CHECKSUM: bool = true;
    const SRC_OFFSET: usize = 12;
    const ADDR_LEN: usize = 4;

    #[inline(always)]
    fn sum(addr: AddrV4) -> Wsum {
        Wsum::ZERO.add_word(addr.be())
    }

    #[inline(always)]
    fn fold(addr: AddrV4) -> u32 {
        addr.be()
    }

    #[inline(always)]
    fn absorb(state: HalfSip, addr: AddrV4) -> HalfSip {
        state.word(addr.be())
    }
}

impl Family for V6 {
    type Addr = AddrV6;
    const ETHERTYPE: u16 = 0x86dd;
    const AF: u8 = 10;
    const IP_LEN: usize = 40;
    const HAS_L3_CHECKSUM: bool = false;
    const SRC_OFFSET: usize = 8;
    const ADDR_LEN: usize = 16;

    #[inline(always)]
    fn sum(addr: AddrV6) -> Wsum {
        let w = addr.be();
        Wsum::ZERO.add_word(w[0]).add_word(w[1]).add_word(w[2]).add_word(w[3])
    }

    #[inline(always)]
    fn fold(addr: AddrV6) -> u32 {
        let w = addr.be();
        w[0] ^ w[1] ^ w[2].rotate_left(7) ^ w[3]
    }

    #[inline(always)]
    fn absorb(state: HalfSip, addr: AddrV6) -> HalfSip {
        let w = addr.be();
        state.word(w[0]).word(w[1]).word(w[2]).word(w[3])
    }
}

/// Delta of a checksum for replacing addresses (source and destination).
#[inline(always)]
pub fn addr_delta<F: Family>(old: (F::Addr, F::Addr), new: (F::Addr, F::Addr)) -> Wsum {
    F::sum(new.0).plus(F::sum(new.1)).minus(F::sum(old.0)).minus(F::sum(old.1))
}
