//! Headers in the byte order of the packet. Fields of two octets or more are in network byte order.

use super::cursor::{plain, word};
use crate::addr::{AddrV4, AddrV6, Proto};

/// Octets of an Ethernet header without tags.
pub const ETH_LEN: usize = 14;
/// Octets of a UDP header; an ICMP error quotes at least as many (RFC 792).
pub const UDP_LEN: usize = 8;
/// Octets of an SCTP common header (RFC 9260 section 3.1).
pub const SCTP_LEN: usize = 12;
/// Octets of a TCP header without options.
pub const TCP_LEN: usize = 20;
/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: usize = 16;
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: usize = 6;

/// RFC 791.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Header {
    pub version_ihl: u8,
    pub tos: u8,
    pub len: u16,
    pub id: u16,
    pub fragment: u16,
    pub ttl: u8,
    pub proto: u8,
    pub check: u16,
    pub src: [u16; 2],
    pub dst: [u16; 2],
}

/// RFC 8200.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Header {
    pub version_class_flow: [u16; 2],
    pub payload_len: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub src: [u16; 8],
    pub dst: [u16; 8],
}

/// The ports, at the same place in TCP, UDP and SCTP.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub src: u16,
    pub dst: u16,
}

/// RFC 9293, without options.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TcpHeader {
    pub ports: Ports,
    pub seq: [u16; 2],
    pub ack: [u16; 2],
    pub offset: u8,
    pub flags: u8,
    pub window: u16,
    pub check: u16,
    pub urgent: u16,
}

plain!(Ipv4Header, Ipv6Header, Ports, TcpHeader);
const _: () = assert!(size_of::<Ipv4Header>() == 20 && size_of::<Ipv6Header>() == 40);
const _: () = assert!(size_of::<TcpHeader>() == TCP_LEN);

/// TCP flag bits.
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

/// Offset of the checksum in a TCP or UDP header.
#[inline(always)]
pub const fn checksum_offset(proto: Proto) -> usize {
    if proto.0 == Proto::TCP.0 { TCP_CHECKSUM } else { UDP_CHECKSUM }
}

#[inline(always)]
pub const fn addr_v4(halves: [u16; 2]) -> AddrV4 {
    AddrV4::from_be(word(halves))
}

#[inline(always)]
pub const fn addr_v6(h: [u16; 8]) -> AddrV6 {
    AddrV6::from_be([word([h[0], h[1]]), word([h[2], h[3]]), word([h[4], h[5]]), word([h[6], h[7]])])
}

#[inline(always)]
pub const fn halves_v4(addr: AddrV4) -> [u16; 2] {
    let b = addr.octets();
    [u16::from_ne_bytes([b[0], b[1]]), u16::from_ne_bytes([b[2], b[3]])]
}

#[inline(always)]
pub const fn halves_v6(addr: AddrV6) -> [u16; 8] {
    let w = addr.be();
    let [a, b, c, d] = [
        halves_v4(AddrV4::from_be(w[0])),
        halves_v4(AddrV4::from_be(w[1])),
        halves_v4(AddrV4::from_be(w[2])),
        halves_v4(AddrV4::from_be(w[3])),
    ];
    [a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]
}
