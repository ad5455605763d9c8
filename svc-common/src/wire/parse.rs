//! Parses a packet's tuple, or returns the reason why there is none.

use super::cursor::Cursor;
use super::ip::{Ipv4Header, Ipv6Header, Ports, SCTP_LEN, TCP_LEN, TcpHeader, UDP_LEN};
use crate::abi::FlowKey;
use crate::abi::limits::IPV6_EXTENSIONS;
use crate::addr::{AddrV4, AddrV6, Port, Proto};
use crate::family::{Family, V4, V6};

/// The parts of a packet that the datapath needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Packet<A> {
    pub key: FlowKey<A>,
    /// Offset of the TCP or UDP header from the packet's first octet.
    pub l4: usize,
    /// Octets from the IP header on.
    pub len: u32,
    /// Octets of the TCP or UDP header.
    pub l4_len: u8,
    /// Time to live / hop limit.
    pub ttl: u8,
    /// TCP flags; 0 for UDP.
    pub tcp_flags: u8,
    pub shape: Shape,
}

/// Properties of a packet, a set of bits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shape(u8);

impl Shape {
    /// No IP options or extension headers: the transport header follows the fixed IP header.
    pub const PLAIN: Self = Self(1);
    /// The first fragment of a packet. Only this one has ports.
    pub const FRAGMENT: Self = Self(2);

    #[inline(always)]
    pub const fn new(is_plain: bool, is_fragment: bool) -> Self {
        Self(is_plain as u8 | (is_fragment as u8) << 1)
    }

    #[inline(always)]
    pub const fn has(self, bit: Self) -> bool {
        self.0 & bit.0 != 0
    }
}

/// Why a packet has no tuple.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Skip {
    /// Truncated, or the length fields are wrong.
    Truncated,
    /// An IP version that differs from the Ethernet type, or a header length below the minimum.
    Malformed,
    /// Neither TCP, UDP nor SCTP.
    OtherProtocol,
    /// A fragment that is not the first, so it has no ports.
    Fragment,
    /// More extension headers than [`crate::abi::limits::IPV6_EXTENSIONS`].
    TooManyHeaders,
}

/// Contents of the IP header and of the extension headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Headers<A> {
    pub src: A,
    pub dst: A,
    pub proto: Proto,
    /// Offset of the transport header from the packet's first octet.
    pub l4: usize,
    /// Octets from the IP header on.
    pub len: u32,
    /// Octets from the transport header on, according to the IP header.
    pub transport_len: u32,
    pub ttl: u8,
    pub is_plain: bool,
    /// A fragment, and whether it is the first one, which has the transport header.
    pub is_fragment: bool,
    pub is_first: bool,
    /// The fragments' common identification, beside addresses and protocol.
    pub fragment_id: u32,
}

/// Families that can be parsed.
pub trait Parse: Family {
    /// Reads the IP header at `l3` and finds the transport header.
    fn headers<C: Cursor + ?Sized>(packet: &C, l3: usize) -> Result<Headers<Self::Addr>, Skip>;

    /// Reads IP and transport header at `l3`.
    #[inline(always)]
    fn parse<C: Cursor + ?Sized>(packet: &C, l3: usize) -> Result<Packet<Self::Addr>, Skip> {
        let ip = Self::headers(packet, l3)?;
        if !ip.is_first {
            return Err(Skip::Fragment);
        }
        let (ports, tcp_flags, l4_len) = transport(packet, ip.l4, ip.proto.0, ip.transport_len)?;
        Ok(Packet {
            key: FlowKey {
                src: ip.src,
                dst: ip.dst,
                sport: Port::from_be(ports.src),
                dport: Port::from_be(ports.dst),
                proto: ip.proto,
                _pad: [0; 3],
            },
            l4: ip.l4,
            len: ip.len,
            ttl: ip.ttl,
            l4_len,
            tcp_flags,
            shape: Shape::new(ip.is_plain, ip.is_fragment),
        })
    }
}

impl Parse for V4 {
    #[inline(always)]
    fn headers<C: Cursor + ?Sized>(packet: &C, l3: usize) -> Result<Headers<Self::Addr>, Skip> {
        let ip: Ipv4Header = packet.read(l3).ok_or(Skip::Truncated)?;
        let [src, dst] = packet.two_words(l3 + Self::SRC_OFFSET).ok_or(Skip::Truncated)?;
        let header = ((ip.version_ihl & 0x0f) as usize) << 2;
        if ip.version_ihl >> 4 != 4 || header < Self::IP_LEN {
            return Err(Skip::Malformed);
        }
        let len = u16::from_be(ip.len) as u32;
        Ok(Headers {
            src: AddrV4::from_be(src),
            dst: AddrV4::from_be(dst),
            proto: Proto(ip.proto),
            l4: l3 + header,
            len,
            transport_len: octets_after(packet, len, header),
            ttl: ip.ttl,
            is_plain: header == Self::IP_LEN,
            // More fragments, or an offset.
            is_fragment: u16::from_be(ip.fragment) & 0x3fff != 0,
            is_first: u16::from_be(ip.fragment) & 0x1fff == 0,
            fragment_id: ip.id as u32,
        })
    }
}

impl Parse for V6 {
    #[inline(always)]
    fn headers<C: Cursor + ?Sized>(packet: &C, l3: usize) -> Result<Headers<Self::Addr>, Skip> {
        let ip: Ipv6Header = packet.read(l3).ok_or(Skip::Truncated)?;
        let [a, b, c, d, e, f, g, h] = packet.eight_words(l3 + Self::SRC_OFFSET).ok_or(Skip::Truncated)?;
        if u16::from_be(ip.version_class_flow[0]) >> 12 != 6 {
            return Err(Skip::Malformed);
        }
        let (mut next, mut l4) = (ip.next_header, l3 + Self::IP_LEN);
        let (mut place, mut fragment_id) = (0, 0);
        for _ in 0..IPV6_EXTENSIONS {
            match next {
                // Hop-by-hop, routing, destination options: next header, length in 8 octets beyond the first 8.
                0 | 43 | 60 => {
                    let [following, units] = packet.read::<u16>(l4).ok_or(Skip::Truncated)?.to_ne_bytes();
                    next = following;
                    l4 += (units as usize + 1) << 3;
                }
                _ => break,
            }
        }
        // A fragment header ends the chain here: next header, reserved, offset and more, identification.
        if next == 44 {
            let [following, at, high, low] = packet.read::<[u16; 4]>(l4).ok_or(Skip::Truncated)?;
            next = following.to_ne_bytes()[0];
            place = u16::from_be(at) & 0xfff9;
            fragment_id = (high as u32) << 16 | low as u32;
            l4 += 8;
        }
        if matches!(next, 0 | 43 | 44 | 60) {
            return Err(Skip::TooManyHeaders);
        }
        let payload = u16::from_be(ip.payload_len) as u32;
        Ok(Headers {
            src: AddrV6::from_be([a, b, c, d]),
            dst: AddrV6::from_be([e, f, g, h]),
            proto: Proto(next),
            l4,
            len: payload + Self::IP_LEN as u32,
            transport_len: octets_after(packet, payload, l4 - l3 - Self::IP_LEN),
            ttl: ip.hop_limit,
            is_plain: l4 == l3 + Self::IP_LEN,
            is_fragment: place != 0,
            is_first: place & 0xfff8 == 0,
            fragment_id,
        })
    }
}

/// Octets after `headers` octets of headers, according to the IP header. A length of zero is that of a packet too
/// large for the field (BIG TCP); only the kernel makes these, and segments them later.
#[inline(always)]
fn octets_after<C: Cursor + ?Sized>(packet: &C, len: u32, headers: usize) -> u32 {
    if len == 0 && packet.is_segments() { u32::MAX } else { len.saturating_sub(headers as u32) }
}

#[inline(always)]
fn transport<C: Cursor + ?Sized>(
    packet: &C,
    l4: usize,
    proto: u8,
    transport_len: u32,
) -> Result<(Ports, u8, u8), Skip> {
    if proto == Proto::TCP.0 {
        if transport_len < TCP_LEN as u32 {
            return Err(Skip::Truncated);
        }
        let tcp: TcpHeader = packet.read(l4).ok_or(Skip::Truncated)?;
        Ok((tcp.ports, tcp.flags, (tcp.offset >> 4) << 2))
    } else if proto == Proto::UDP.0 {
        if transport_len < UDP_LEN as u32 {
            return Err(Skip::Truncated);
        }
        // The whole header must be there: its checksum gets rewritten.
        let [source, destination, ..] = packet.read::<[u16; 4]>(l4).ok_or(Skip::Truncated)?;
        Ok((Ports { src: source, dst: destination }, 0, UDP_LEN as u8))
    } else if proto == Proto::SCTP.0 {
        if transport_len < SCTP_LEN as u32 {
            return Err(Skip::Truncated);
        }
        let [source, destination, ..] = packet.read::<[u16; 6]>(l4).ok_or(Skip::Truncated)?;
        Ok((Ports { src: source, dst: destination }, 0, SCTP_LEN as u8))
    } else {
        Err(Skip::OtherProtocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp4(edit: impl FnOnce(&mut Vec<u8>)) -> Result<Packet<AddrV4>, Skip> {
        let mut p = vec![0u8; 14];
        p.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        p.extend([0x12, 0x34, 0, 53, 0, 8, 0, 0]);
        edit(&mut p);
        V4::parse(p.as_slice(), 14)
    }

    #[test]
    fn a_datagram_has_its_tuple() {
        let p = udp4(|_| ()).unwrap();
        assert_eq!((p.key.sport.number(), p.key.dport.number(), p.l4, p.len), (0x1234, 53, 34, 28));
        assert_eq!((p.key.src.octets(), p.key.dst.octets()), ([10, 0, 0, 1], [10, 0, 0, 2]));
        assert!(p.shape.has(Shape::PLAIN));
    }

    #[test]
    fn options_move_the_transport_header() {
        let p = udp4(|p| {
            (p[14], p[17]) = (0x46, 32);
            p.splice(34..34, [1, 1, 1, 0]);
        });
        assert_eq!(p.map(|p| (p.l4, p.shape.has(Shape::PLAIN))), Ok((38, false)));
    }

    #[test]
    fn packets_without_a_tuple_are_skipped_with_the_reason() {
        assert_eq!(udp4(|p| p.truncate(41)), Err(Skip::Truncated));
        assert_eq!(udp4(|p| p[17] = 27), Err(Skip::Truncated));
        assert_eq!(udp4(|p| p[17] = 0), Err(Skip::Truncated));
        assert_eq!(udp4(|p| p[14] = 0x44), Err(Skip::Malformed));
        assert_eq!(udp4(|p| p[14] = 0x65), Err(Skip::Malformed));
        assert_eq!(udp4(|p| p[21] = 1), Err(Skip::Fragment));
        assert_eq!(udp4(|p| p[23] = 1), Err(Skip::OtherProtocol));
    }

    #[test]
    fn the_first_fragment_has_its_tuple_and_says_that_more_follow() {
        let p = udp4(|p| (p[18], p[19], p[20]) = (0x12, 0x34, 0x20)).unwrap();
        assert!(p.shape.has(Shape::FRAGMENT) && p.key.dport.number() == 53);
        assert!(!udp4(|_| ()).unwrap().shape.has(Shape::FRAGMENT));
    }

    #[test]
    fn ipv6_extension_headers_are_followed_to_a_bound() {
        let packet = |extensions: usize, first: u8| {
            let mut p = vec![0u8; 14];
            p.extend([0x60, 0, 0, 0, 0, 8 + 8 * extensions as u8, first, 64]);
            p.extend([1u8; 32]);
            for i in 0..extensions {
                p.extend([if i + 1 == extensions { 17 } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
            }
            p.extend([0, 1, 0, 53, 0, 8, 0, 0]);
            V6::parse(p.as_slice(), 14).map(|p| p.l4)
        };
        assert_eq!(packet(0, 17), Ok(54));
        assert_eq!(packet(IPV6_EXTENSIONS, 60), Ok(54 + 8 * IPV6_EXTENSIONS));
        assert_eq!(packet(IPV6_EXTENSIONS + 1, 60), Err(Skip::TooManyHeaders));
        assert_eq!(packet(1, 44), Ok(62));
    }
}
