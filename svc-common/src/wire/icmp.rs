//! ICMP errors (RFC 792, RFC 4443): the headers before the quoted packet.

use super::checksum::{Wsum, sum16};
use super::cursor::{Cursor, Plain, plain};
use super::ip::{Ipv4Header, Ipv6Header, halves_v4, halves_v6};
use super::parse::Headers;
use super::rewrite::{HeaderWords, Rewrite};
use crate::addr::{AddrV4, AddrV6, Proto};
use crate::family::{Family, V4, V6};

/// Octets of an ICMP error's own header.
pub const ICMP_LEN: usize = 8;

/// Cause of the error. A plain number, because an enum with a value leaves a register unset when it crosses a call.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Problem(pub u32);

impl Problem {
    /// Port unreachable: TCP, UDP and SCTP alike (SEM-091).
    pub const NO_ENDPOINT: Self = Self(0);
    /// Port unreachable: the Service has no such port.
    pub const UNKNOWN_PORT: Self = Self(1 << 16);
    /// Time exceeded in transit.
    pub const TIME_EXCEEDED: Self = Self(1 << 17);

    /// Fragmentation needed / packet too big. `mtu` is the size that fits and is not zero.
    #[inline(always)]
    pub const fn too_big(mtu: u16) -> Self {
        Self(mtu as u32)
    }

    #[inline(always)]
    pub const fn is_too_big(self) -> bool {
        self.0 as u16 != 0
    }

    #[inline(always)]
    const fn mtu_be(self) -> u16 {
        (self.0 as u16).to_be()
    }
}

/// IP header and ICMP header of an error.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Error<H> {
    pub ip: H,
    pub kind: u8,
    pub code: u8,
    pub check: u16,
    pub unused: u16,
    pub mtu: u16,
}

plain!(Error<Ipv4Header>, Error<Ipv6Header>);

/// Families for which ICMP errors can be written.
pub trait Icmp: Rewrite {
    type Error: Plain;

    /// Writes the headers of an error from `src` to `dst` that quotes `quoted_len` octets whose sum is `quoted`.
    fn write_error(
        out: &mut Self::Error,
        src: &Self::Addr,
        dst: &Self::Addr,
        problem: Problem,
        quoted_len: usize,
        quoted: Wsum,
    );
    /// Sum over an IP header.
    fn header_sum(header: &Self::Header) -> Wsum;
    /// Octets of a quoted packet's header and its protocol; 0 if no ports follow the header.
    fn quoted(header: &HeaderWords) -> (usize, Proto);
    /// The packet is an ICMP error. A truncated ICMP message counts as one.
    fn is_error<C: Cursor + ?Sized>(packet: &C, ip: &Headers<Self::Addr>) -> bool;
    /// The header is that of an ICMP redirect (RFC 792). IPv6 redirects are neighbor messages, not errors.
    fn is_redirect(header: &[u16; 4]) -> bool;
}

/// Change of the sum over an ICMP message by translating the packet that it quotes. `addr` and `port` are the changes
/// of the sums over the quoted addresses and ports, `outer` over the addresses of the message itself. The quoted
/// checksums cancel their part: the IPv4 header's, and the transport's if it is quoted.
#[inline(always)]
pub fn quote_delta<F: Family>(addr: Wsum, port: Wsum, has_check: bool, outer: Wsum) -> Wsum {
    // IPv6 has no header checksum, and its pseudo-header includes the message's own addresses (RFC 4443 section 2.3).
    let delta = if F::HAS_L3_CHECKSUM { port } else { port.plus(addr).plus(outer) };
    if has_check { delta.minus(addr).minus(port) } else { delta }
}

/// The type of an ICMP message whose header lies at `l4`.
#[inline(always)]
fn kind<C: Cursor + ?Sized>(packet: &C, l4: usize) -> Option<u8> {
    packet.read::<[u16; 4]>(l4).map(|words| words[0].to_ne_bytes()[0])
}

#[inline(always)]
fn first_word(kind: u8, code: u8) -> Wsum {
    Wsum(u16::from_ne_bytes([kind, code]) as u32)
}

impl Icmp for V4 {
    type Error = Error<Ipv4Header>;

    #[inline(always)]
    fn write_error(
        out: &mut Self::Error,
        src: &AddrV4,
        dst: &AddrV4,
        problem: Problem,
        quoted_len: usize,
        quoted: Wsum,
    ) {
        let (kind, code) = match problem {
            Problem::TIME_EXCEEDED => (11, 0),
            _ => (3, if problem.is_too_big() { 4 } else { 3 }),
        };
        let mtu = problem.mtu_be();
        let len = ((Self::IP_LEN + ICMP_LEN + quoted_len) as u16).to_be();
        // Version and header length, internetwork control (RFC 1812 4.3.2.5); time to live and protocol.
        let fixed = Wsum(u16::from_ne_bytes([0x45, 0xc0]) as u32 + u16::from_ne_bytes([64, 1]) as u32);
        let ip_sum = fixed.add_word(len as u32).plus(Self::sum(*src)).plus(Self::sum(*dst));
        *out = Error {
            ip: Ipv4Header {
                version_ihl: 0x45,
                tos: 0xc0,
                len,
                id: 0,
                fragment: 0,
                ttl: 64,
                proto: 1,
                check: !ip_sum.fold(),
                src: halves_v4(*src),
                dst: halves_v4(*dst),
            },
            kind,
            code,
            check: !first_word(kind, code).add_word(mtu as u32).plus(quoted).fold(),
            unused: 0,
            mtu,
        };
    }

    #[inline(always)]
    fn header_sum(h: &Ipv4Header) -> Wsum {
        let pair = |a: u8, b: u8| u16::from_ne_bytes([a, b]);
        sum16(&[
            pair(h.version_ihl, h.tos),
            h.len,
            h.id,
            h.fragment,
            pair(h.ttl, h.proto),
            h.check,
            h.src[0],
            h.src[1],
            h.dst[0],
            h.dst[1],
        ])
    }

    #[inline(always)]
    fn quoted(header: &HeaderWords) -> (usize, Proto) {
        let [first, ..] = header[0].to_ne_bytes();
        let [_, _, high, low] = header[1].to_ne_bytes();
        let [_, proto, ..] = header[2].to_ne_bytes();
        let length = ((first & 0x0f) as usize) << 2;
        let is_first = u16::from_be_bytes([high, low]) & 0x1fff == 0;
        let is_known = first >> 4 == 4 && length >= Self::IP_LEN && is_first;
        (if is_known && Proto(proto).has_ports() { length } else { 0 }, Proto(proto))
    }

    #[inline(always)]
    fn is_error<C: Cursor + ?Sized>(packet: &C, ip: &Headers<AddrV4>) -> bool {
        // Unreachable, quench, redirect, time exceeded, parameter problem.
        ip.proto == Proto::ICMP && matches!(kind(packet, ip.l4), None | Some(3 | 4 | 5 | 11 | 12))
    }

    #[inline(always)]
    fn is_redirect(header: &[u16; 4]) -> bool {
        header[0].to_ne_bytes()[0] == 5
    }
}

impl Icmp for V6 {
    type Error = Error<Ipv6Header>;

    #[inline(always)]
    fn write_error(
        out: &mut Self::Error,
        src: &AddrV6,
        dst: &AddrV6,
        problem: Problem,
        quoted_len: usize,
        quoted: Wsum,
    ) {
        let (kind, code) = match problem {
            Problem::TIME_EXCEEDED => (3, 0),
            _ if problem.is_too_big() => (2, 0),
            _ => (1, 4),
        };
        let mtu = problem.mtu_be();
        let payload_len = ((ICMP_LEN + quoted_len) as u16).to_be();
        // The pseudo-header: addresses, length, next header (RFC 8200 8.1).
        let pseudo =
            Self::sum(*src).plus(Self::sum(*dst)).add_word(payload_len as u32).add_word(58u16.to_be() as u32);
        *out = Error {
            ip: Ipv6Header {
                version_class_flow: [0x6000u16.to_be(), 0],
                payload_len,
                next_header: 58,
                hop_limit: 64,
                src: halves_v6(*src),
                dst: halves_v6(*dst),
            },
            kind,
            code,
            check: !pseudo.plus(first_word(kind, code)).add_word(mtu as u32).plus(quoted).fold(),
            unused: 0,
            mtu,
        };
    }

    #[inline(always)]
    fn header_sum(h: &Ipv6Header) -> Wsum {
        let rest = sum16(&[
            h.version_class_flow[0],
            h.version_class_flow[1],
            h.payload_len,
            u16::from_ne_bytes([h.next_header, h.hop_limit]),
        ]);
        rest.plus(sum16(&h.src)).plus(sum16(&h.dst))
    }

    #[inline(always)]
    fn quoted(header: &HeaderWords) -> (usize, Proto) {
        let [first, ..] = header[0].to_ne_bytes();
        let [_, _, proto, _] = header[1].to_ne_bytes();
        let is_known = first >> 4 == 6 && Proto(proto).has_ports();
        (if is_known { Self::IP_LEN } else { 0 }, Proto(proto))
    }

    #[inline(always)]
    fn is_error<C: Cursor + ?Sized>(packet: &C, ip: &Headers<AddrV6>) -> bool {
        ip.proto == Proto::ICMPV6 && kind(packet, ip.l4).is_none_or(|kind| kind < 128)
    }

    #[inline(always)]
    fn is_redirect(_: &[u16; 4]) -> bool {
        false
    }
}
