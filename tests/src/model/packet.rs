//! A packet and its octets. Every checksum is computed in full over the finished octets, by `packet::wire`.

use std::net::IpAddr;

use super::world::{Proto, Tuple};
use crate::packet::sums::{crc32c, fold, pseudo, sum};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// Octets of an Ethernet header.
pub const ETH: usize = 14;
/// Offset of the checksum (four octets) in an SCTP header.
pub const SCTP_CHECKSUM: usize = 8;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    pub tuple: Tuple,
    pub shape: Shape,
    /// The packet is an ICMP error about this one.
    pub quotes: Option<Quote>,
}

/// The quoted beginning of another packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quote {
    pub tuple: Tuple,
    pub shape: Shape,
    /// Quoted octets after its IP header.
    pub octets: usize,
    /// The tuple over which a quoted SCTP checksum was computed. Receivers ignore it, and svc does not update it.
    pub summed: Tuple,
}

/// A fragment: these octets after its IP header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    pub id: u16,
    pub from: usize,
    pub to: usize,
}

/// All properties of a packet except its tuple.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// TCP flags.
    pub flags: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Octets after the transport header.
    pub payload: usize,
    /// IPv4 options, or an IPv6 extension header: 8 octets.
    pub has_options: bool,
    /// A UDP datagram without a checksum (RFC 768).
    pub has_no_sum: bool,
    /// The frame is addressed to another MAC.
    pub is_stray: bool,
    pub part: Option<Part>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            flags: 0,
            ttl: 64,
            payload: 11,
            has_options: false,
            has_no_sum: false,
            is_stray: false,
            part: None,
        }
    }
}

impl Packet {
    pub fn is_syn_ack(&self) -> bool {
        self.tuple.proto == Proto::Tcp && self.shape.flags & (SYN | ACK) == SYN | ACK
    }

    pub fn is_syn(&self) -> bool {
        self.tuple.proto == Proto::Tcp && self.shape.flags & (SYN | ACK) == SYN
    }

    /// The transport header follows the fixed IP header.
    pub fn is_plain(&self) -> bool {
        !self.shape.has_options && (self.shape.part.is_none() || self.tuple.src.is_ipv4())
    }

    /// It has ports of its own: it is not a later fragment.
    pub fn has_ports(&self) -> bool {
        self.shape.part.is_none_or(|part| part.from == 0)
    }

    /// The first fragment is too short for the ports.
    pub fn is_cut_short(&self) -> bool {
        self.shape.part.is_some_and(|part| part.from == 0 && part.to < header(self.tuple.proto))
    }

    /// Octets from the IP header on.
    pub fn size(&self) -> usize {
        let is_v4 = self.tuple.src.is_ipv4();
        let options = if self.shape.has_options { 8 } else { 0 };
        let fragment = if self.shape.part.is_some() && !is_v4 { 8 } else { 0 };
        let body = match (self.shape.part, self.quotes) {
            (Some(part), _) => part.to - part.from,
            (None, Some(quote)) => 8 + if is_v4 { 20 } else { 40 } + quote.octets,
            (None, None) => self.whole(),
        };
        options + fragment + body + if is_v4 { 20 } else { 40 }
    }

    /// Octets after the IP header of the unfragmented packet.
    pub fn whole(&self) -> usize {
        header(self.tuple.proto) + self.shape.payload
    }

    /// The frame between the two MACs.
    pub fn octets(&self, dmac: [u8; 6], smac: [u8; 6]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(ETH + self.size());
        frame.extend(dmac);
        frame.extend(smac);
        let body = match (self.quotes, self.shape.part) {
            (Some(quote), _) => self.error(&quote),
            (None, Some(part)) => self.transport()[part.from..part.to].to_vec(),
            (None, None) => self.transport(),
        };
        match (self.tuple.src.ip(), self.tuple.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend([0x08, 0x00]);
                frame.extend(self.ipv4(src.octets(), dst.octets()));
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.ipv6(src.octets(), dst.octets()));
            }
            _ => panic!("a packet of two families"),
        }
        frame.extend(body);
        frame
    }

    /// Fragmentation needed / packet too big.
    fn error(&self, quote: &Quote) -> Vec<u8> {
        let (src, dst) = (self.tuple.src.ip(), self.tuple.dst.ip());
        let kind: [u8; 8] = if src.is_ipv4() { [3, 4, 0, 0, 0, 0, 5, 0] } else { [2, 0, 0, 0, 0, 0, 5, 0] };
        let frame = |tuple| Self { tuple, shape: quote.shape, quotes: None }.octets([0; 6], [0; 6]);
        let mut quoted = frame(quote.tuple);
        if quote.tuple.proto == Proto::Sctp {
            let at = quoted.len() - (header(Proto::Sctp) + quote.shape.payload) + SCTP_CHECKSUM;
            quoted[at..at + 4].copy_from_slice(&frame(quote.summed)[at..at + 4]);
        }
        let len = quote.octets + if src.is_ipv4() { 20 } else { 40 };
        let mut body = [&kind[..], &quoted[ETH..ETH + len]].concat();
        let pseudo = if src.is_ipv4() { 0 } else { pseudo(src, dst, body.len(), self.number()) };
        let check = !fold(pseudo + sum(&body));
        body[2..4].copy_from_slice(&check.to_be_bytes());
        body
    }

    fn transport(&self) -> Vec<u8> {
        let Tuple { proto, src, dst } = self.tuple;
        let mut body = Vec::with_capacity(header(proto) + self.shape.payload);
        body.extend(src.port().to_be_bytes());
        body.extend(dst.port().to_be_bytes());
        match proto {
            Proto::Tcp => {
                body.extend([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0]);
                body.extend([0x50, self.shape.flags, 0x20, 0x00, 0, 0, 0, 0]);
            }
            Proto::Udp => {
                body.extend((8 + self.shape.payload as u16).to_be_bytes());
                body.extend([0, 0]);
            }
            // Verification tag, checksum.
            Proto::Sctp => body.extend([9, 8, 7, 6, 0, 0, 0, 0]),
            Proto::Icmp => {
                body[..4].copy_from_slice(&[if src.is_ipv4() { 8 } else { 128 }, 0, 0, 0]);
                body.extend([0; 4]);
            }
        }
        body.extend((0..self.shape.payload).map(|i| (i % 251) as u8));
        let at = match proto {
            Proto::Tcp => 16,
            Proto::Udp if !self.shape.has_no_sum => 6,
            Proto::Sctp => {
                let check = crc32c(&body).to_le_bytes();
                body[SCTP_CHECKSUM..SCTP_CHECKSUM + 4].copy_from_slice(&check);
                return body;
            }
            Proto::Udp | Proto::Icmp => return body,
        };
        let check = !fold(pseudo(src.ip(), dst.ip(), body.len(), self.number()) + sum(&body));
        // A computed UDP checksum of zero is sent as 0xffff.
        let check = if proto == Proto::Udp && check == 0 { 0xffff } else { check };
        body[at..at + 2].copy_from_slice(&check.to_be_bytes());
        body
    }

    fn number(&self) -> u8 {
        match self.tuple.proto {
            Proto::Tcp => 6,
            Proto::Udp => 17,
            Proto::Sctp => 132,
            Proto::Icmp if self.tuple.src.is_ipv4() => 1,
            Proto::Icmp => 58,
        }
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let header: usize = if self.shape.has_options { 28 } else { 20 };
        let [hi, lo] = (self.size() as u16).to_be_bytes();
        let first = 0x40 | (header / 4) as u8;
        let (id, place) = self.shape.part.map_or((1, 0x4000), |part| {
            (part.id, (part.from / 8) as u16 | u16::from(part.to < self.whole()) << 13)
        });
        let ([id, id_low], [place, place_low]) = (id.to_be_bytes(), place.to_be_bytes());
        let mut ip =
            vec![first, 0, hi, lo, id, id_low, place, place_low, self.shape.ttl, self.number(), 0, 0];
        ip.extend(src);
        ip.extend(dst);
        // No-operation options up to the end.
        ip.resize(header, 1);
        let check = !fold(sum(&ip));
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        ip
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        let [hi, lo] = ((self.size() - 40) as u16).to_be_bytes();
        let last = if self.shape.part.is_some() { 44 } else { self.number() };
        let next = if self.shape.has_options { 60 } else { last };
        let mut ip = vec![0x60, 0, 0, 0, hi, lo, next, self.shape.ttl];
        ip.extend(src);
        ip.extend(dst);
        if self.shape.has_options {
            ip.extend([last, 0, 1, 4, 0, 0, 0, 0]);
        }
        if let Some(part) = self.shape.part {
            let place = part.from as u16 | u16::from(part.to < self.whole());
            let ([hi, lo], [id, id_low]) = (place.to_be_bytes(), part.id.to_be_bytes());
            ip.extend([self.number(), 0, hi, lo, 0, 0, id, id_low]);
        }
        ip
    }
}

/// Octets of a transport header.
pub fn header(proto: Proto) -> usize {
    match proto {
        Proto::Tcp => 20,
        Proto::Udp | Proto::Icmp => 8,
        Proto::Sctp => 12,
    }
}

/// The tuple in the octets of a packet of this shape, with the ports of `like` if it has none; `None` if it is too
/// short.
pub fn tuple_in(octets: &[u8], like: &Packet) -> Option<Tuple> {
    let options = if like.shape.has_options { 8 } else { 0 };
    let fragment = if like.shape.part.is_some() { 8 } else { 0 };
    let array = |at: usize, len: usize| octets.get(at..at + len);
    let (src, dst, l4): (IpAddr, IpAddr, usize) = if like.tuple.src.is_ipv4() {
        let address = |at| array(at, 4).and_then(|a| <[u8; 4]>::try_from(a).ok()).map(IpAddr::from);
        (address(ETH + 12)?, address(ETH + 16)?, ETH + 20 + options)
    } else {
        let address = |at| array(at, 16).and_then(|a| <[u8; 16]>::try_from(a).ok()).map(IpAddr::from);
        (address(ETH + 8)?, address(ETH + 24)?, ETH + 40 + options + fragment)
    };
    let port = |at: usize| array(at, 2).map(|p| u16::from_be_bytes([p[0], p[1]]));
    let (sport, dport) = match like.has_ports() && like.quotes.is_none() {
        true => (port(l4)?, port(l4 + 2)?),
        false => (like.tuple.src.port(), like.tuple.dst.port()),
    };
    Some(Tuple { proto: like.tuple.proto, src: (src, sport).into(), dst: (dst, dport).into() })
}
