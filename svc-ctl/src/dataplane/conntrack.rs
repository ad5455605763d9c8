//! Lists the connections of nf_conntrack in this network namespace, by ctnetlink. Changes nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use svc_common::addr::Proto;

use super::netlink::{NLM_F_DUMP, attribute, exchange, message};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// `IPS_SRC_NAT` and `IPS_DST_NAT` (linux/netfilter/nf_conntrack_common.h).
const SOURCE_NAT: u32 = 1 << 4;
const DESTINATION_NAT: u32 = 1 << 5;

/// Octets of `struct nfgenmsg`.
const HEADER: usize = 4;

/// The number of connections, as text. Missing without conntrack.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// The packets of one direction, as they arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Direction {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub proto: Proto,
}

/// A connection that conntrack knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tracked {
    pub original: Direction,
    pub reply: Direction,
    pub has_source_nat: bool,
    pub has_destination_nat: bool,
}

/// Conntrack runs here and knows connections. Costs one read of a file.
pub fn has_connections() -> bool {
    std::fs::read_to_string(COUNT).is_ok_and(|count| count.trim() != "0")
}

/// Calls `each` with every connection that has ports.
pub fn each(mut each: impl FnMut(Tracked)) -> io::Result<()> {
    exchange(libc::NETLINK_NETFILTER, &message(GET, NLM_F_DUMP, &[0; HEADER]), |kind, body| {
        if kind == NEW {
            body.get(HEADER..).and_then(tracked).into_iter().for_each(&mut each);
        }
    })
}

/// `None` for protocols without ports, and for a truncated message.
fn tracked(attributes: &[u8]) -> Option<Tracked> {
    let status = u32::from_be_bytes(*attribute(attributes, CTA_STATUS)?.first_chunk()?);
    Some(Tracked {
        original: direction(attribute(attributes, CTA_TUPLE_ORIG)?)?,
        reply: direction(attribute(attributes, CTA_TUPLE_REPLY)?)?,
        has_source_nat: status & SOURCE_NAT != 0,
        has_destination_nat: status & DESTINATION_NAT != 0,
    })
}

fn direction(tuple: &[u8]) -> Option<Direction> {
    let (ip, proto) = (attribute(tuple, CTA_TUPLE_IP)?, attribute(tuple, CTA_TUPLE_PROTO)?);
    let v4 = |kind| Some(IpAddr::from(Ipv4Addr::from(*attribute(ip, kind)?.first_chunk::<4>()?)));
    let v6 = |kind| Some(IpAddr::from(Ipv6Addr::from(*attribute(ip, kind)?.first_chunk::<16>()?)));
    let port = |kind| Some(u16::from_be_bytes(*attribute(proto, kind)?.first_chunk()?));
    let (src, dst) =
        (v4(CTA_IP_V4_SRC).or_else(|| v6(CTA_IP_V6_SRC))?, v4(CTA_IP_V4_DST).or_else(|| v6(CTA_IP_V6_DST))?);
    Some(Direction {
        src: (src, port(CTA_PROTO_SRC_PORT)?).into(),
        dst: (dst, port(CTA_PROTO_DST_PORT)?).into(),
        proto: Proto(*attribute(proto, CTA_PROTO_NUM)?.first()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut whole = (4 + value.len() as u16).to_ne_bytes().to_vec();
        whole.extend(kind.to_ne_bytes());
        whole.extend(value);
        whole.resize(whole.len().next_multiple_of(4), 0);
        whole
    }

    fn tuple(kind: u16, [src, dst]: [u8; 2], [sport, dport]: [u16; 2]) -> Vec<u8> {
        let ip = [nested(CTA_IP_V4_SRC, &[10, 0, 0, src]), nested(CTA_IP_V4_DST, &[10, 0, 0, dst])].concat();
        let proto = [
            nested(CTA_PROTO_NUM, &[6]),
            nested(CTA_PROTO_SRC_PORT, &sport.to_be_bytes()),
            nested(CTA_PROTO_DST_PORT, &dport.to_be_bytes()),
        ];
        // The kernel marks nested attributes.
        let parts = [nested(CTA_TUPLE_IP | 0x8000, &ip), nested(CTA_TUPLE_PROTO | 0x8000, &proto.concat())];
        nested(kind | 0x8000, &parts.concat())
    }

    #[test]
    fn a_masqueraded_connection_is_parsed_and_a_truncated_one_is_left_out() {
        let message = [
            tuple(CTA_TUPLE_ORIG, [1, 9], [31777, 443]),
            tuple(CTA_TUPLE_REPLY, [9, 2], [443, 31777]),
            nested(CTA_STATUS, &0x19e_u32.to_be_bytes()),
        ]
        .concat();
        let end = |last: u8, port: u16| SocketAddr::from(([10, 0, 0, last], port));
        let tracked_one = Tracked {
            original: Direction { src: end(1, 31777), dst: end(9, 443), proto: Proto::TCP },
            reply: Direction { src: end(9, 443), dst: end(2, 31777), proto: Proto::TCP },
            has_source_nat: true,
            has_destination_nat: false,
        };
        assert_eq!(tracked(&message), Some(tracked_one));
        for len in 0..message.len() - 4 {
            assert_eq!(tracked(&message[..len]), None, "{len} octets");
        }
    }
}
