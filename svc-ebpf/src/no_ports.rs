//! Handles packets without ports of their own: fragments other than the first, ICMP errors, and protocols other than
//! TCP, UDP and SCTP. They are rare, so this is one call that parses the packet again.

use svc_common::abi::*;
use svc_common::wire::ip::UDP_LEN;
use svc_common::wire::parse::{Headers, Shape};

use crate::choose::{pass_unserved, verdict_without_frontend};
use crate::fib;
use crate::hook::PacketAccess;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::record::record_at;
use crate::send::forward_out;
use crate::tables::{count, count_service};

/// Verdict for such a packet: an action of the hook or one of these constants.
pub struct Verdict;

impl Verdict {
    /// Report an unknown port to the sender. The part of the packet to quote is in the scratch space.
    pub const UNKNOWN_PORT: i32 = 1 << 16;
    /// An ICMP error: [`crate::icmp_inner`] handles it.
    pub const QUOTES: i32 = 1 << 17;
    /// An ICMP error that quotes no packet of a known flow.
    pub const NO_FLOW: i32 = 1 << 18;
}

/// Handles a packet that is neither TCP, UDP nor SCTP.
#[inline(never)]
pub fn other_protocol<F: Net, M: PacketAccess>(m: &M, hook: Hook, role: Role) -> i32 {
    let Some(scratch) = F::scratch() else { return m.pass() };
    let Some(ip) = headers::<F, M>(m, role) else { return m.pass() };
    if F::is_error(&m.frame(), &ip) {
        // ICMP errors are not answered with errors (RFC 1122 3.2.2, RFC 4443 2.4). They are handled by a call beside
        // this one, not below it, because the stack is short.
        return Verdict::QUOTES;
    }
    if hook != Hook::INGRESS {
        return m.pass();
    }
    let packet = &mut scratch.packet;
    (packet.key.src, packet.key.dst, packet.key.proto) = (ip.src, ip.dst, ip.proto);
    packet.l4 = ip.l4;
    packet.len = ip.len;
    packet.l4_len = UDP_LEN as u8;
    packet.shape = Shape::new(ip.is_plain, ip.is_fragment);
    // An echo request, for example, is refused at the addresses that refuse connections (SEM-095).
    match verdict_without_frontend::<F>(F::address(&packet.key.dst).unwrap_or_default(), &packet.key.dst) {
        Outcome::PASS => pass_unserved::<F, M>(m, role, &packet.key.dst),
        Outcome::UNKNOWN_PORT => Verdict::UNKNOWN_PORT,
        _ => m.drop(),
    }
}

/// Passes an ICMP error of no known flow, but not to an unused address of a pool: router and node would send it to each
/// other until its time to live is over, as an echo request (SEM-315).
#[inline(never)]
pub fn unserved_error<F: Net, M: PacketAccess>(m: &M, role: Role) -> i32 {
    match headers::<F, M>(m, role) {
        Some(ip) => pass_unserved::<F, M>(m, role, &ip.dst),
        None => m.pass(),
    }
}

/// The headers of a packet that svc handles.
#[inline(always)]
pub fn headers<F: Net, M: PacketAccess>(m: &M, role: Role) -> Option<Headers<F::Addr>> {
    let ip = F::headers(&m.frame(), M::L3).ok()?;
    (!M::BEFORE_STACK && m.is_complete(ip.len) && m.is_ours(role)).then_some(ip)
}

/// Resolves the record's next hop: such a packet may be the first of its direction.
#[inline(always)]
pub fn resolve_next_hop<F: Net, M: PacketAccess>(
    m: &M,
    key: &FlowKey<F::Addr>,
    record: &mut FlowRecord<F::Addr>,
) {
    if record.exit == Exit::REDIRECT && !record.is_resolved() {
        fib::next_hop::<F>(m.ctx(), m.ifindex(), key, record);
    }
}

/// Stores the ports of a packet's first fragment for the other fragments (SEM-109).
#[inline(never)]
pub fn remember<F: Net, M: PacketAccess>(m: &M, key: &FlowKey<F::Addr>) -> u32 {
    let Some(scratch) = F::scratch() else { return 0 };
    let Ok(ip) = F::headers(&m.frame(), M::L3) else { return 0 };
    let common = &mut scratch.fragment;
    (common.src, common.dst, common.id, common.proto) = (key.src, key.dst, ip.fragment_id, key.proto);
    common._pad = [0; 3];
    F::insert_fragment(common, &FragmentPorts { sport: key.sport, dport: key.dport });
    0
}

/// Translates a fragment like its packet's first fragment. If the first one has not been seen, the fragment is
/// dropped at the addresses of Services.
#[inline(never)]
pub fn fragment<F: Net, M: PacketAccess>(m: &M, hook: Hook, role: Role) -> i32 {
    let Some(scratch) = F::scratch() else { return m.pass() };
    let Some(ip) = headers::<F, M>(m, role) else { return m.pass() };
    let header = &mut scratch.inner.header;
    if !m.load_octets(M::L3, header, F::IP_LEN) {
        return m.pass();
    }
    let (key, common) = (&mut scratch.packet.key, &mut scratch.fragment);
    F::addresses(header, &mut key.src, &mut key.dst);
    (key.proto, common.src, common.dst) = (ip.proto, key.src, key.dst);
    (common.id, common.proto, common._pad) = (ip.fragment_id, ip.proto, [0; 3]);
    let ports = F::fragment(common).unwrap_or_default();
    (key.sport, key.dport) = (ports.sport, ports.dport);
    let Some(record) = record_at::<F>(key, hook) else {
        let address = F::address(&common.dst).unwrap_or_default();
        let is_services = address.has(AddressFlags::CLUSTER_IP) || address.has(AddressFlags::EXTERNAL_IP);
        if hook != Hook::INGRESS || !is_services || address.has(AddressFlags::LOCAL) {
            return pass_unserved::<F, M>(m, role, &common.dst);
        }
        count(Counter::DropFragment);
        return m.drop();
    };
    let hops = (record.exit == Exit::REDIRECT) as u8;
    resolve_next_hop::<F, M>(m, key, record);
    if hops != 0 && ip.ttl <= 1 {
        count(Counter::DropTtl);
        return m.drop();
    }
    let addr = F::readdress(header, &record.src, &record.dst, hops);
    if !m.store_octets(M::L3, header, F::IP_LEN) {
        count(Counter::DropRewrite);
        return m.drop();
    }
    m.fix_sum::<F>(addr, hops);
    count_service(record.service, 0, 1, ip.len as u64);
    forward_out::<F, M>(m, record)
}
