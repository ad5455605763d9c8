//! Updates the checksum of SCTP, which is a CRC and not a sum.

use svc_common::abi::FlowRecord;
use svc_common::addr::Port;
use svc_common::wire::checksum::Wsum;
use svc_common::wire::ip::SCTP_LEN;
use svc_common::wire::parse::{Packet, Shape};

use crate::hook::PacketAccess;
use crate::net::Net;

/// Called before the packet is written. False if the checksum cannot be updated: the ports change and the length of
/// the whole packet is not known.
#[inline(always)]
pub fn fix<F: Net, M: PacketAccess>(
    m: &M,
    packet: &Packet<F::Addr>,
    record: &FlowRecord<F::Addr>,
    hops: u8,
) -> bool {
    let flipped = ports(packet.key.sport, packet.key.dport) ^ ports(record.sport, record.dport);
    if flipped != 0 && packet.shape.has(Shape::FRAGMENT) {
        return false;
    }
    let length = packet.len.wrapping_sub((packet.l4 - M::L3) as u32);
    // The IPv4 header's checksum cancels the change of the addresses. In IPv6 nothing does.
    let addr = if F::HAS_L3_CHECKSUM {
        Wsum::ZERO
    } else {
        let hop = Wsum::ZERO.minus(Wsum(u16::from_ne_bytes([0, hops]) as u32));
        // A key without a source address is for UDP alone.
        record.addr_delta.plus(hop)
    };
    m.fix_crc(packet.l4, F::sctp_delta(flipped, length), addr.plus(record.port_delta))
}

/// The sender left the checksum to a card (CHECKSUM_PARTIAL), which computes it later over the packet including the
/// field, so the field must stay zero. One packet in 2^32 has a true checksum of zero and gets a wrong one.
#[inline(always)]
pub fn is_to_be_completed(header: &[u16; SCTP_LEN / 2]) -> bool {
    header[4] | header[5] == 0
}

/// Both ports in the packet's byte order.
#[inline(always)]
fn ports(sport: Port, dport: Port) -> u32 {
    let ([a, b], [c, d]) = (sport.be().to_ne_bytes(), dport.be().to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}
