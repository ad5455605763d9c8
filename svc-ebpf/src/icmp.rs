//! Reports an error to a packet's sender: the packet itself becomes the ICMP error and leaves by the interface by
//! which it came in.

use aya_ebpf::helpers::generated::{bpf_skb_adjust_room, bpf_skb_change_tail};
use svc_common::abi::Counter;
use svc_common::addr::Proto;
use svc_common::wire::checksum::{Wsum, completion_proof, sum16};
use svc_common::wire::cursor::Cursor as _;
use svc_common::wire::icmp::{ICMP_LEN, Icmp, Problem};
use svc_common::wire::ip::{ETH_LEN, TCP_LEN, UDP_LEN, checksum_offset};
use svc_common::wire::parse::{Packet, Shape};

use crate::hook::tc::Tc;
use crate::hook::xdp::Xdp;
use crate::hook::{PacketAccess, Reject};
use crate::maps::Scratch;
use crate::net::Net;
use crate::tables::{Tables, count, iface, is_own, may_reject};

/// `BPF_ADJ_ROOM_MAC`: room between the link header and the IP header.
const ADJ_ROOM_MAC: u32 = 1;

impl Reject for Xdp<'_> {
    /// Rare, so left to the TC hook, which gets the packet untouched.
    #[inline(always)]
    fn reject<F: Net>(&self, _packet: &Packet<F::Addr>, _problem: Problem) -> i32 {
        self.pass()
    }
}

impl<const L3: usize> Reject for Tc<'_, L3> {
    #[inline(always)]
    fn reject<F: Net>(&self, packet: &Packet<F::Addr>, problem: Problem) -> i32 {
        let Some(scratch) = F::scratch() else { return self.drop() };
        scratch.packet = *packet;
        if L3 == ETH_LEN {
            F::reject_at_tc(self.skb(), problem.0)
        } else {
            F::reject_at_tunnel(self.skb(), problem.0)
        }
    }
}

/// Reports a problem to the sender of the packet in the scratch space.
#[inline(always)]
pub fn report<F: Tables + Icmp, const L3: usize>(tc: &Tc<'_, L3>, problem: Problem) -> i32 {
    let Some(Scratch { packet, .. }) = F::scratch() else { return tc.drop() };
    let counter = match problem {
        Problem::NO_ENDPOINT => Counter::RejectNoEndpoint,
        Problem::UNKNOWN_PORT => Counter::RejectUnknownPort,
        Problem::TIME_EXCEEDED => Counter::RejectTtl,
        _ => Counter::RejectTooBig,
    };
    if !may_reject() {
        count(Counter::RejectLimited);
        return tc.drop();
    }
    if packet.shape.has(Shape::PLAIN) && answer::<F, L3>(tc, packet, problem).is_some() {
        count(counter);
        tc.redirect(tc.ifindex())
    } else {
        count(Counter::DropRewrite);
        tc.drop()
    }
}

/// Turns the packet into the error; `None` if the kernel refuses.
///
/// A sender with checksum offload leaves the quoted checksum to be completed later (CHECKSUM_PARTIAL), which cannot
/// be switched off from here. The quoted checksum is therefore replaced by a value with the same sum whether it gets
/// completed or not. No receiver of an ICMP error looks at it.
#[inline(always)]
fn answer<F: Tables + Icmp, const L3: usize>(
    tc: &Tc<'_, L3>,
    packet: &Packet<F::Addr>,
    problem: Problem,
) -> Option<()> {
    let l4 = L3 + F::IP_LEN;
    let frame = tc.frame();
    let macs = if L3 == ETH_LEN { frame.read::<[u16; 6]>(0)? } else { [0; 6] };
    let proto = packet.key.proto;
    // Everything by reference: copies would not fit on the stack.
    // SAFETY: `at` checked the bounds, and the packet does not move before the sums are done.
    let (l4_len, rest, header) = unsafe {
        let header = F::header_sum(&*frame.at::<F::Header>(L3)?);
        if proto == Proto::TCP {
            let words = &*frame.at::<[u16; TCP_LEN / 2]>(l4)?;
            (TCP_LEN, sum16(words).minus(Wsum(words[8] as u32)), header)
        } else {
            let words = &*frame.at::<[u16; UDP_LEN / 2]>(l4)?;
            let check = if proto == Proto::UDP { words[3] } else { 0 };
            (UDP_LEN, sum16(words).minus(Wsum(check as u32)), header)
        }
    };
    // Other protocols have no checksum there to be completed.
    let has_checksum = proto == Proto::TCP || proto == Proto::UDP;
    let proof = if has_checksum { completion_proof(rest) } else { 0 };
    let quoted = header.plus(rest).add_word(proof as u32);

    let room = (F::IP_LEN + ICMP_LEN) as i32;
    // SAFETY: the context is this program's own; the helpers check lengths themselves.
    unsafe {
        if bpf_skb_change_tail(tc.skb(), (l4 + l4_len) as u32, 0) != 0
            || bpf_skb_adjust_room(tc.skb(), room, ADJ_ROOM_MAC, 0) != 0
        {
            return None;
        }
    }
    let frame = tc.frame();
    let headers = frame.at::<F::Error>(L3)?;
    let check = frame.at::<u16>(l4 + room as usize + checksum_offset(proto))?;
    // SAFETY: `at` checked the bounds of each.
    unsafe {
        if L3 == ETH_LEN {
            let [a, b, c, d, e, f] = macs;
            frame.at::<[u16; 6]>(0)?.write([d, e, f, a, b, c]);
            frame.at::<u16>(ETH_LEN - 2)?.write(F::ETHERTYPE.to_be());
        }
        F::write_error(
            &mut *headers,
            source::<F>(tc, packet),
            &packet.key.src,
            problem,
            F::IP_LEN + l4_len,
            quoted,
        );
        if has_checksum {
            check.write(proof);
        }
    }
    Some(())
}

/// Source of the error: the dialled address if it is this node's, else the node's address towards the client
/// (SEM-092).
#[inline(always)]
fn source<'a, F: Tables>(m: &impl PacketAccess, packet: &'a Packet<F::Addr>) -> &'a F::Addr
where
    F::Addr: 'a,
{
    if is_own::<F>(&packet.key.dst) {
        return &packet.key.dst;
    }
    match iface(m.ifindex()) {
        Some(i) if *F::snat_addr(i) != F::Addr::default() => F::snat_addr(i),
        _ => &packet.key.dst,
    }
}
