//! Packets without ports of their own: what is neither TCP nor UDP.

use svc_common::abi::{FlowKey, Role};
use svc_common::wire::ip::UDP_LEN;
use svc_common::wire::parse::Packet;

use crate::hook::Medium;
use crate::new_flow::{Outcome, nobodys};
use crate::pipeline::Net;

/// An [`Outcome`] for a packet that came in. Rare: a call of its own, and parsed anew. Leaves in `packet` as much of it as
/// an ICMP error quotes.
#[inline(never)]
pub fn judge<F: Net, M: Medium>(m: &M, role: Role, packet: &mut Packet<F::Addr>) -> u32 {
    let frame = m.frame();
    let Ok(ip) = F::headers(&frame, M::L3) else { return Outcome::PASS };
    // No error about an error (RFC 1122 3.2.2, RFC 4443 2.4).
    if M::BEFORE_STACK || !m.has_arrived(ip.len) || !m.is_ours(role) || F::is_error(&frame, &ip) {
        return Outcome::PASS;
    }
    packet.key = FlowKey { src: ip.src, dst: ip.dst, proto: ip.proto, ..FlowKey::default() };
    packet.l4 = ip.l4;
    packet.len = ip.len;
    packet.l4_len = UDP_LEN as u8;
    packet.is_plain = ip.is_plain;
    // An echo request, say, is refused where a connection would be (SEM-095).
    nobodys::<F>(F::address(&packet.key.dst).unwrap_or_default(), &packet.key.dst)
}
