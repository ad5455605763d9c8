//! Packets from words. Checksums are summed from nothing over the finished bytes, octet pair by octet pair: nothing
//! here is shared with the datapath.

use std::net::IpAddr;

use svc_common::abi::limits::SNAT_TRIES;

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

/// What the UDP checksum field holds.
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

/// A case of a row.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub family: Family,
    /// `Tcp` or `Udp`: what `Either` means; `Sctp` where a row is about that.
    pub l4: L4,
    /// The client's own ports for masquerade, in the order they are tried (`snat0`, `snat1`, ...).
    pub snat: [u16; SNAT_TRIES as usize],
}

/// A packet in words. Times to live are 64, MACs those of the interface it is seen at, unless told.
#[derive(Clone, Debug)]
pub struct Packet {
    pub l4: L4,
    src: &'static str,
    dst: &'static str,
    flags: u8,
    ttl: u8,
    payload: usize,
    udp_sum: UdpSum,
    /// IPv4 options, or an IPv6 extension header: 8 octets between IP and transport header.
    has_options: bool,
    /// Offset in units of 8 octets, and whether more follow.
    fragment: Option<(u16, bool)>,
    /// Outermost first.
    tags: Vec<Tag>,
    via: Option<&'static str>,
    is_turned: bool,
    /// Between these endpoints the payload makes the checksum come out as zero.
    zero_sum_between: Option<(&'static str, &'static str)>,
    claimed_len: Option<u16>,
    cut: Option<usize>,
    /// What an ICMP error quotes: the packet, and how many octets behind its IP header.
    quotes: Option<(Complaint, Box<Packet>, usize)>,
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Complaint {
    PortUnreachable,
    TooBig(u16),
    TimeExceeded,
}

impl Complaint {
    /// Type, code, and the last two octets of the header.
    const fn header(self, family: Family) -> ([u8; 2], u16) {
        match (self, family) {
            (Self::PortUnreachable, Family::V4) => ([3, 3], 0),
            (Self::PortUnreachable, Family::V6) => ([1, 4], 0),
            (Self::TooBig(mtu), Family::V4) => ([3, 4], mtu),
            (Self::TooBig(mtu), Family::V6) => ([2, 0], mtu),
            (Self::TimeExceeded, Family::V4) => ([11, 0], 0),
            (Self::TimeExceeded, Family::V6) => ([3, 0], 0),
        }
    }
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

/// A packet of a flow that has begun: ACK with data, or datagram.
pub fn later(src: &'static str, dst: &'static str) -> Packet {
    Packet { l4: L4::Either, ..tcp(ACK, src, dst) }
}

/// An SCTP packet with something in it that is no chunk.
pub fn sctp(src: &'static str, dst: &'static str) -> Packet {
    packet(L4::Sctp, src, dst, 0, 11)
}

pub fn ping(src: &'static str, dst: &'static str) -> Packet {
    packet(L4::Icmp, src, dst, 0, 12)
}

/// An ICMP error (ports do not count) about a packet, of which it quotes the least: 8 octets behind the IP header.
pub fn complaint(what: Complaint, src: &'static str, dst: &'static str, about: Packet) -> Packet {
    Packet { quotes: Some((what, Box::new(about), 8)), ..packet(L4::Icmp, src, dst, 0, 0) }
}

impl Packet {
    /// The error quotes so many octets behind the IP header.
    pub fn quoting(self, octets: usize) -> Self {
        Self { quotes: self.quotes.map(|(what, about, _)| (what, about, octets)), ..self }
    }

    /// That a case is about: the quoted packet's, in an ICMP error.
    pub fn protocol(&self) -> L4 {
        self.quotes.as_ref().map_or(self.l4, |(_, about, _)| about.l4)
    }

    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub fn payload(self, payload: usize) -> Self {
        Self { payload, ..self }
    }

    pub fn without_checksum(self) -> Self {
        Self { udp_sum: UdpSum::Absent, ..self }
    }

    /// The payload is such that a datagram between these endpoints has a checksum of zero, which is sent as 0xffff
    /// (RFC 768).
    pub fn that_sums_to_zero(self, src: &'static str, dst: &'static str) -> Self {
        Self { zero_sum_between: Some((src, dst)), ..self }
    }

    pub fn with_options(self) -> Self {
        Self { has_options: true, ..self }
    }

    pub fn fragment(self, offset: u16, more: bool) -> Self {
        Self { fragment: Some((offset, more)), ..self }
    }

    /// Sent to this next hop: its MACs, one hop fewer.
    pub fn via(self, host: &'static str) -> Self {
        Self { via: Some(host), ttl: self.ttl - 1, ..self }
    }

    /// With a VLAN's tag, within the tags it has already; number 0 is no VLAN (IEEE 802.1Q).
    pub fn in_vlan(self, number: u16) -> Self {
        self.tagged(Tag::new(C_TAG, number))
    }

    /// With a provider's tag around the VLANs that follow (IEEE 802.1ad).
    pub fn in_provider_vlan(self, number: u16) -> Self {
        self.tagged(Tag::new(S_TAG, number))
    }

    /// With a tag that names a priority (0 to 7) and no VLAN.
    pub fn with_priority(self, priority: u16) -> Self {
        self.tagged(Tag::new(C_TAG, priority << 13))
    }

    fn tagged(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// MACs swapped: back to where it came from.
    pub fn turned(self) -> Self {
        Self { is_turned: true, ..self }
    }

    /// One hop fewer, MACs left to the neighbour subsystem.
    pub fn by_neighbour(self) -> Self {
        Self { ttl: self.ttl - 1, ..self }
    }

    /// Its IP header says this is its length (IPv6: of the payload).
    pub fn claims(self, len: u16) -> Self {
        Self { claimed_len: Some(len), ..self }
    }

    /// Only so many octets after the fixed IP header arrive.
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

    /// The bytes, as seen at an interface: on its way in or out.
    pub fn bytes(&self, case: Case, interface: &str, is_ingress: bool) -> Vec<u8> {
        let l4 = if self.l4 == L4::Either { case.l4 } else { self.l4 };
        let ((src, sport), (dst, dport)) = (endpoint(self.src, case), endpoint(self.dst, case));
        let mut frame = self.ethernet(case.family, interface, is_ingress);
        let mut body = match (&self.quotes, self.fragment) {
            (Some((what, about, octets)), _) => quotation(*what, about, *octets, case),
            // Only the first one has a transport header.
            (None, Some((offset, _))) if offset != 0 => (0..24).collect(),
            (None, _) => self.transport(l4, case.family, sport, dport, self.last_pair(l4, case)),
        };
        let proto = number(l4, case.family);
        let pseudo = pseudo(src, dst, body.len(), proto);
        if self.fragment.is_none_or(|(offset, _)| offset == 0) {
            self.set_checksum(l4, case.family, &mut body, pseudo);
        }
        let ip = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets(), proto, body.len()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets(), proto, body.len()),
            _ => panic!("a packet of two families"),
        };
        let fixed = frame.len() + ip_len(case.family);
        frame.extend(ip);
        frame.extend(body);
        if let Some(octets) = self.cut {
            frame.truncate(fixed + octets);
        }
        frame
    }

    fn ethernet(&self, family: Family, interface: &str, is_ingress: bool) -> Vec<u8> {
        let (own, peer) = place::macs(interface);
        let (dmac, smac) = match self.via.map(place::hop) {
            Some(hop) => (hop.dmac, hop.smac),
            None if is_ingress != self.is_turned => (own, peer),
            None => (peer, own),
        };
        let kind = match family {
            Family::V4 => [0x08, 0x00],
            Family::V6 => [0x86, 0xdd],
        };
        let tags: Vec<u8> = self.tags.iter().flat_map(|tag| tag.octets()).collect();
        [dmac.as_slice(), &smac, &tags, &kind].concat()
    }

    fn transport(&self, l4: L4, family: Family, sport: u16, dport: u16, last: u16) -> Vec<u8> {
        let mut body = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        let mut payload: Vec<u8> = (0..self.payload).map(|i| (i % 251) as u8).collect();
        if self.zero_sum_between.is_some() {
            payload.truncate(self.payload.saturating_sub(2));
            payload.extend(last.to_be_bytes());
        }
        match l4 {
            L4::Tcp => {
                body.extend([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0]);
                body.extend([0x50, self.flags, 0x20, 0x00, 0, 0, 0, 0]);
            }
            L4::Udp => {
                body.extend((8 + payload.len() as u16).to_be_bytes());
                body.extend([0, 0]);
            }
            // The echo request's checksum lies where a port would.
            L4::Icmp => body[..4].copy_from_slice(&[if family == Family::V4 { 8 } else { 128 }, 0, 0, 0]),
            // Verification tag, checksum.
            L4::Sctp => body.extend([9, 8, 7, 6, 0, 0, 0, 0]),
            L4::Either => {}
        }
        body.extend(payload);
        body
    }

    /// What the last two octets of the payload have to be for a sum of zero; the payload is of even length.
    fn last_pair(&self, l4: L4, case: Case) -> u16 {
        let Some((src, dst)) = self.zero_sum_between else { return 0 };
        let ((src, sport), (dst, dport)) = (endpoint(src, case), endpoint(dst, case));
        let body = self.transport(l4, case.family, sport, dport, 0);
        !fold(pseudo(src, dst, body.len(), number(l4, case.family)) + sum(&body))
    }

    fn set_checksum(&self, l4: L4, family: Family, body: &mut [u8], pseudo: u32) {
        // ICMP has no pseudo-header, ICMPv6 has (RFC 792, RFC 4443 section 2.3).
        let pseudo = if l4 == L4::Icmp && family == Family::V4 { 0 } else { pseudo };
        let at = match l4 {
            L4::Icmp => 2,
            L4::Tcp => 16,
            L4::Udp if self.udp_sum == UdpSum::Right => 6,
            L4::Sctp => {
                let check = crc32c(body).to_le_bytes();
                return body[8..12].copy_from_slice(&check);
            }
            L4::Udp | L4::Either => return,
        };
        let check = !fold(pseudo + sum(body));
        let check = if l4 == L4::Udp && check == 0 { 0xffff } else { check };
        body[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4], proto: u8, body: usize) -> Vec<u8> {
        let header = if self.has_options { 28 } else { 20 };
        let len = self.claimed_len.unwrap_or((header + body) as u16).to_be_bytes();
        let place = self.fragment.map_or(0x4000, |(offset, more)| offset | u16::from(more) << 13);
        let [hi, lo] = place.to_be_bytes();
        let mut ip = vec![0x40 | (header / 4) as u8, 0, len[0], len[1], 0, 1, hi, lo, self.ttl, proto, 0, 0];
        ip.extend(src);
        ip.extend(dst);
        // No operation, to the end.
        ip.resize(header, 1);
        let check = !fold(sum(&ip));
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        ip
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16], proto: u8, body: usize) -> Vec<u8> {
        // Destination options (one PadN of six octets), fragment header.
        let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
        if self.has_options {
            chain.push((60, vec![0, 0, 1, 4, 0, 0, 0, 0]));
        }
        if let Some((offset, more)) = self.fragment {
            let [hi, lo] = (offset << 3 | u16::from(more)).to_be_bytes();
            chain.push((44, vec![0, 0, hi, lo, 0, 0, 0, 1]));
        }
        let kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).chain([proto]).collect();
        let len = self.claimed_len.unwrap_or((8 * chain.len() + body) as u16).to_be_bytes();
        let mut ip = vec![0x60, 0, 0, 0, len[0], len[1], kinds[0], self.ttl];
        ip.extend(src);
        ip.extend(dst);
        for ((_, mut header), next) in chain.into_iter().zip(&kinds[1..]) {
            header[0] = *next;
            ip.extend(header);
        }
        ip
    }
}

/// The octets of an ICMP error behind its IP header, without checksum.
fn quotation(what: Complaint, about: &Packet, octets: usize, case: Case) -> Vec<u8> {
    let ([kind, code], mtu) = what.header(case.family);
    let [high, low] = mtu.to_be_bytes();
    let frame = about.bytes(case, "up0", true);
    let behind = 14 + ip_len(case.family) + if about.has_options { 8 } else { 0 };
    let quoted = frame.get(14..(behind + octets).min(frame.len())).unwrap_or_default();
    [&[kind, code, 0, 0, 0, 0, high, low], quoted].concat()
}

/// `HOST:PORT`; ports `snat0`, `snat1`, ... are the client's for masquerade.
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

pub fn ip_len(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
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

/// The checksum of SCTP, bit by bit (RFC 9260 appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |register: u32| (register >> 1) ^ if register & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |register, byte| (0..8).fold(register ^ u32::from(*byte), |r, _| step(r)))
}

/// Sum over pairs of octets, the last one padded with zero.
pub fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|p| u32::from(p[0]) << 8 | p.get(1).map_or(0, |b| u32::from(*b))).sum()
}

pub fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum over the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
pub fn pseudo(src: IpAddr, dst: IpAddr, len: usize, proto: u8) -> u32 {
    let octets = |addr: IpAddr| match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    sum(&octets(src)) + sum(&octets(dst)) + len as u32 + u32::from(proto)
}
