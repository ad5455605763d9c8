//! Keeping the checksum of SCTP, which is no sum.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use svc_common::abi::FlowRecord;
use svc_common::addr::Port;
use svc_common::wire::checksum::Wsum;
use svc_common::wire::crc32c::{Delta, STEPS};
use svc_common::wire::ip::SCTP_LEN;
use svc_common::wire::parse::{Packet, Shape};

use crate::hook::Medium;
use crate::pipeline::Net;
use crate::quoted::delta_of;

/// Before the packet is written: false if the checksum cannot be kept, which is so where ports change and the length of the
/// whole packet is not known.
#[inline(always)]
pub fn fix<F: Net, M: Medium>(
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
    // Without a checksum that would take them off again, the addresses count as well (IPv4 has its header's).
    let addr = if F::HAS_L3_CHECKSUM {
        Wsum::ZERO
    } else {
        let hop = Wsum::ZERO.minus(Wsum(u16::from_ne_bytes([0, hops]) as u32));
        delta_of::<F>(record, packet.key.src, packet.key.dst).plus(hop)
    };
    m.fix_crc(packet.l4, delta(flipped, length), addr.plus(record.port_delta))
}

/// The sender left the checksum to a card (CHECKSUM_PARTIAL), which computes it over the packet as it then is, the field
/// included: it must stay zero. One packet in 2^32 has a checksum of zero and comes out with a wrong one.
#[inline(always)]
pub fn is_to_be_completed(header: &[u16; SCTP_LEN / 2]) -> bool {
    header[4] | header[5] == 0
}

/// Both ports as they lie in the packet.
#[inline(always)]
fn ports(sport: Port, dport: Port) -> u32 {
    let ([a, b], [c, d]) = (sport.be().to_ne_bytes(), dport.be().to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// A call of its own: rare, and long.
#[inline(never)]
fn delta(flipped: u32, length: u32) -> u32 {
    let mut delta = Delta::new(flipped, length);
    // By the helper and not a loop of ours: the verifier walks its body once, not once per round.
    // SAFETY: the callback has the helper's signature and gets the value, which outlives the call.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut delta).cast(), 0) };
    delta.flipped()
}

/// One step; 0 goes on.
extern "C" fn step(n: u32, delta: *mut c_void) -> i64 {
    // SAFETY: `delta` passes its value and waits.
    unsafe { &mut *delta.cast::<Delta>() }.step(n);
    0
}
