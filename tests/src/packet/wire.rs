//! Descriptions of packets; `octets` writes them.

use std::net::IpAddr;

use super::place::{self, Family};
use super::tagged::{C_TAG, S_TAG, Tag};

/// Transport of a packet; `Either` gives the row a TCP and a UDP case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum L4 {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Either,
}

/// Content of the UDP checksum field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UdpSum {
    Right,
    /// "No checksum" (RFC 768).
    Absent,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// Number of a client's source port candidates that have names.
pub const CANDIDATES: usize = 80;

/// A case of a row.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub family: Family,
    /// `Tcp` or `Udp`, which replaces `Either`; `Sctp` in rows about that.
    pub l4: L4,
    /// The client's SNAT ports in the order in which they are tried (`snat0`, `snat1`, ...).
    pub snat: [u16; CANDIDATES],
}

/// A described packet. By default the time to live is 64 and MACs are those of the interface.
#[derive(Clone, Debug)]
pub struct Packet {
    pub l4: L4,
    pub(super) src: &'static str,
    pub(super) dst: &'static str,
    pub(super) flags: u8,
    pub(super) ttl: u8,
    pub(super) payload: usize,
    pub(super) udp_sum: UdpSum,
    /// IPv4 options, or an IPv6 extension header: 8 octets between IP and transport header.
    pub(super) has_options: bool,
    /// Offset in units of 8 octets, and whether more follow.
    pub(super) fragment: Option<(u16, bool)>,
    /// Outermost first.
    pub(super) tags: Vec<Tag>,
    pub(super) via: Option<&'static str>,
    pub(super) is_turned: bool,
    /// The payload makes the checksum between these endpoints zero.
    pub(super) zero_sum_between: Option<(&'static str, &'static str)>,
    pub(super) claimed_len: Option<u16>,
    pub(super) cut: Option<usize>,
    /// The packet that an ICMP error quotes, and the number of quoted octets after its IP header.
    pub(super) quotes: Option<(Complaint, Box<Packet>, usize)>,
}

/// Kind of an ICMP error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Complaint {
    PortUnreachable,
    TooBig(u16),
    TimeExceeded,
    /// Redirect to this machine; IPv4 only.
    Redirect,
}

fn packet(l4: L4, src: &'static str, dst: &'static str, flags: u8, payload: usize) -> Packet {
    Packet {
        l4,
        src,
        dst,
        flags,
        ttl: 64,
        payload,
        udp_sum: UdpSum::Right,
        has_options: false,
        fragment: None,
        tags: Vec::new(),
        via: None,
        is_turned: false,
        zero_sum_between: None,
        claimed_len: None,
        cut: None,
        quotes: None,
    }
}

/// A TCP segment with these flags.
pub fn tcp(flags: u8, src: &'static str, dst: &'static str) -> Packet {
    packet(L4::Tcp, src, dst, flags, if flags & SYN == 0 { 11 } else { 0 })
}

pub fn udp(src: &'static str, dst: &'static str) -> Packet {
    packet(L4::Udp, src, dst, 0, 11)
}

/// A client's first packet: SYN or datagram.
pub fn first(src: &'static str, dst: &'static str) -> Packet {
    Packet { l4: L4::Either, payload: 0, ..tcp(SYN, src, dst) }
}

/// A later packet of a flow: ACK with data, or datagram.
pub fn later(src: &'static str, dst: &'static str) -> Packet {
    Packet { l4: L4::Either, ..tcp(ACK, src, dst) }
}

/// An SCTP packet whose content is not a chunk.
pub fn sctp(src: &'static str, dst: &'static str) -> Packet {
    packet(L4::Sctp, src, dst, 0, 11)
}

pub fn ping(src: &'static str, dst: &'static str) -> Packet {
    packet(L4::Icmp, src, dst, 0, 12)
}

/// An ICMP error about a packet, quoting the minimum: 8 octets after the IP header. Its ports are ignored.
pub fn complaint(what: Complaint, src: &'static str, dst: &'static str, about: Packet) -> Packet {
    Packet { quotes: Some((what, Box::new(about), 8)), ..packet(L4::Icmp, src, dst, 0, 0) }
}

impl Packet {
    /// The error quotes that many octets after the IP header.
    pub fn quoting(self, octets: usize) -> Self {
        Self { quotes: self.quotes.map(|(what, about, _)| (what, about, octets)), ..self }
    }

    /// The transport of the case: in an ICMP error, the quoted packet's.
    pub fn protocol(&self) -> L4 {
        self.quotes.as_ref().map_or(self.l4, |(_, about, _)| about.l4)
    }

    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub fn payload(self, payload: usize) -> Self {
        Self { payload, ..self }
    }

    /// With SCTP: the checksum is left for a card to complete (CHECKSUM_PARTIAL).
    pub fn without_checksum(self) -> Self {
        Self { udp_sum: UdpSum::Absent, ..self }
    }

    /// The payload makes a datagram between these endpoints have the checksum zero, which is sent as 0xffff (RFC
    /// 768).
    pub fn that_sums_to_zero(self, src: &'static str, dst: &'static str) -> Self {
        Self { zero_sum_between: Some((src, dst)), ..self }
    }

    pub fn with_options(self) -> Self {
        Self { has_options: true, ..self }
    }

    pub fn fragment(self, offset: u16, more: bool) -> Self {
        Self { fragment: Some((offset, more)), ..self }
    }

    /// Sent to this next hop: its MACs, the time to live decremented.
    pub fn via(self, host: &'static str) -> Self {
        Self { via: Some(host), ttl: self.ttl - 1, ..self }
    }

    /// With a VLAN tag inside the existing tags; id 0 is no VLAN (IEEE 802.1Q).
    pub fn in_vlan(self, number: u16) -> Self {
        self.tagged(Tag::new(C_TAG, number))
    }

    /// With a provider's tag around the VLANs that follow (IEEE 802.1ad).
    pub fn in_provider_vlan(self, number: u16) -> Self {
        self.tagged(Tag::new(S_TAG, number))
    }

    /// With a tag that has a priority (0 to 7) and no VLAN.
    pub fn with_priority(self, priority: u16) -> Self {
        self.tagged(Tag::new(C_TAG, priority << 13))
    }

    fn tagged(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// MACs swapped: sent back.
    pub fn turned(self) -> Self {
        Self { is_turned: true, ..self }
    }

    /// The time to live decremented, MACs left to the neighbor subsystem.
    pub fn by_neighbor(self) -> Self {
        Self { ttl: self.ttl - 1, ..self }
    }

    /// The length in its IP header (IPv6: of the payload).
    pub fn claims(self, len: u16) -> Self {
        Self { claimed_len: Some(len), ..self }
    }

    /// Only that many octets after the fixed IP header arrive.
    pub fn cut(self, octets: usize) -> Self {
        Self { cut: Some(octets), ..self }
    }

    /// The interface by which it leaves, if a next hop is named.
    pub fn interface(&self) -> Option<&'static str> {
        self.via.map(|host| place::hop(host).interface)
    }

    pub fn has_no_checksum(&self) -> bool {
        self.udp_sum == UdpSum::Absent
    }

    pub fn source(&self, case: Case) -> (IpAddr, u16) {
        endpoint(self.src, case)
    }
}

/// `HOST:PORT`; ports `snat0`, `snat1`, ... are the client's SNAT ports.
pub fn endpoint(text: &str, case: Case) -> (IpAddr, u16) {
    let Some((host, port)) = text.split_once(':') else { panic!("{text}: want HOST:PORT") };
    let number = match port {
        snat if snat.starts_with("snat") => {
            snat[4..].parse().ok().and_then(|attempt: usize| case.snat.get(attempt).copied())
        }
        number => number.parse().ok(),
    };
    let Some(number) = number else { panic!("{text}: no port") };
    (place::address(host, case.family), number)
}

pub fn number(l4: L4, family: Family) -> u8 {
    match l4 {
        L4::Tcp => 6,
        L4::Udp => 17,
        L4::Sctp => 132,
        L4::Icmp if family == Family::V4 => 1,
        L4::Icmp => 58,
        L4::Either => panic!("a case is TCP or UDP"),
    }
}
