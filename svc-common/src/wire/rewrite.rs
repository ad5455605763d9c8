//! Writing a translation into a header. The transport checksum is not here: the hooks differ in how they keep it.

use super::checksum::Wsum;
use super::cursor::Plain;
use super::ip::{Ipv4Header, Ipv6Header, halves_v4, halves_v6};
use super::parse::Parse;
use crate::addr::{AddrV4, AddrV6};
use crate::family::{V4, V6};

/// Families whose header can be rewritten.
pub trait Rewrite: Parse {
    type Header: Plain;

    /// Puts addresses in, keeps the header checksum (IPv4) by `delta`, and takes `hops` off the time to live.
    fn rewrite(header: &mut Self::Header, src: Self::Addr, dst: Self::Addr, delta: Wsum, hops: u8);
}

impl Rewrite for V4 {
    type Header = Ipv4Header;

    #[inline(always)]
    fn rewrite(header: &mut Ipv4Header, src: AddrV4, dst: AddrV4, delta: Wsum, hops: u8) {
        header.src = halves_v4(src);
        header.dst = halves_v4(dst);
        header.ttl = header.ttl.wrapping_sub(hops);
        // The time to live is the first octet of its 16-bit word.
        let hop_delta = Wsum::ZERO.minus(Wsum(u16::from_ne_bytes([hops, 0]) as u32));
        header.check = delta.plus(hop_delta).apply(header.check);
    }
}

impl Rewrite for V6 {
    type Header = Ipv6Header;

    #[inline(always)]
    fn rewrite(header: &mut Ipv6Header, src: AddrV6, dst: AddrV6, _delta: Wsum, hops: u8) {
        header.src = halves_v6(src);
        header.dst = halves_v6(dst);
        header.hop_limit = header.hop_limit.wrapping_sub(hops);
    }
}
