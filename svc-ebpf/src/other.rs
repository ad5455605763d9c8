//! The way of packets without ports of their own: fragments but the first, ICMP errors, and what is neither TCP, UDP nor
//! SCTP. Rare: all of it is one call, and parses anew.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::wire::ip::UDP_LEN;
use svc_common::wire::parse::{Headers, Shape};

use crate::choose::nobodys;
use crate::fib;
use crate::hook::Medium;
use crate::new_flow::Outcome;
use crate::pipeline::{Net, leave};
use crate::tables::{count, count_service, is_own};

/// What becomes of such a packet: an action of the hook, or one of these.
pub struct Verdict;

impl Verdict {
    /// Its sender is told that there is no such port; as much of it as is quoted lies in the scratch space.
    pub const UNKNOWN_PORT: i32 = 1 << 16;
    /// An ICMP error: it is [`crate::quoted`]'s.
    pub const QUOTES: i32 = 1 << 17;
}

/// A packet that is neither TCP, UDP nor SCTP.
#[inline(never)]
pub fn portless<F: Net, M: Medium>(m: &M, hook: Hook, role: Role) -> i32 {
    let Some(scratch) = F::scratch() else { return m.pass() };
    let Some(ip) = headers::<F, M>(m, role) else { return m.pass() };
    if F::is_error(&m.frame(), &ip) {
        // No error about an error (RFC 1122 3.2.2, RFC 4443 2.4). Its own call, side by side with this one and not below
        // it: the stack is short.
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
    // An echo request, say, is refused where a connection would be (SEM-095).
    match nobodys::<F>(F::address(&packet.key.dst).unwrap_or_default(), &packet.key.dst) {
        Outcome::PASS => m.pass(),
        Outcome::UNKNOWN_PORT => Verdict::UNKNOWN_PORT,
        _ => m.drop(),
    }
}

/// The headers of a packet that is ours to look at.
#[inline(always)]
pub fn headers<F: Net, M: Medium>(m: &M, role: Role) -> Option<Headers<F::Addr>> {
    let ip = F::headers(&m.frame(), M::L3).ok()?;
    (!M::BEFORE_STACK && m.has_arrived(ip.len) && m.is_ours(role)).then_some(ip)
}

/// The record of a tuple at a hook.
#[inline(always)]
pub fn record_at<F: Net>(key: &FlowKey<F::Addr>, hook: Hook) -> Option<&'static mut FlowRecord<F::Addr>> {
    record_by::<F>(key, hook, F::flow)
}

/// The record of a tuple at a hook, as a look-up has it. A server on the node that is bound to the wildcard address answers
/// from whichever address the route prefers.
#[inline(always)]
pub fn record_by<F: Net>(
    key: &FlowKey<F::Addr>,
    hook: Hook,
    look_up: impl Fn(&FlowKey<F::Addr>) -> Option<&'static mut FlowRecord<F::Addr>>,
) -> Option<&'static mut FlowRecord<F::Addr>> {
    let mut record = look_up(key);
    if record.is_none() && key.proto == Proto::UDP && is_own::<F>(&key.src) {
        record = wildcard_record::<F>(key, look_up);
    }
    record.filter(|record| record.hook == hook)
}

/// The record of a datagram from any address of the node, as a look-up has it.
#[inline(always)]
pub fn wildcard_record<F: Net>(
    key: &FlowKey<F::Addr>,
    look_up: impl Fn(&FlowKey<F::Addr>) -> Option<&'static mut FlowRecord<F::Addr>>,
) -> Option<&'static mut FlowRecord<F::Addr>> {
    let wild = &mut F::scratch()?.reverse_key;
    // Field by field: a whole one becomes a call of memcpy, which has a stack of its own.
    (wild.src, wild.dst) = (F::Addr::default(), key.dst);
    (wild.sport, wild.dport, wild.proto, wild._pad) = (key.sport, key.dport, key.proto, [0; 3]);
    look_up(wild)
}

/// The first packet of its direction may be one of these.
#[inline(always)]
pub fn learn_next_hop<F: Net, M: Medium>(m: &M, key: &FlowKey<F::Addr>, record: &mut FlowRecord<F::Addr>) {
    if record.way == Way::REDIRECT && !record.is_resolved() {
        fib::next_hop_of::<F>(m.ctx(), m.ifindex(), key, record);
    }
}

/// Remembers the ports of a packet's first fragment for the others (SEM-109).
#[inline(never)]
pub fn remember<F: Net, M: Medium>(m: &M, key: &FlowKey<F::Addr>) -> u32 {
    let Some(scratch) = F::scratch() else { return 0 };
    let Ok(ip) = F::headers(&m.frame(), M::L3) else { return 0 };
    let common = &mut scratch.fragment;
    (common.src, common.dst, common.id, common.proto) = (key.src, key.dst, ip.fragment_id, key.proto);
    common._pad = [0; 3];
    F::insert_fragment(common, &FragmentPorts { sport: key.sport, dport: key.dport });
    0
}

/// A fragment that is not the first is translated as the first one was. One that comes before its first, or is alone, is
/// dropped where it would leave with a Service's address.
#[inline(never)]
pub fn fragment<F: Net, M: Medium>(m: &M, hook: Hook, role: Role) -> i32 {
    let Some(scratch) = F::scratch() else { return m.pass() };
    let Some(ip) = headers::<F, M>(m, role) else { return m.pass() };
    let header = &mut scratch.quoted.header;
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
            return m.pass();
        }
        count(Counter::DropFragment);
        return m.drop();
    };
    let hops = (record.way == Way::REDIRECT) as u8;
    learn_next_hop::<F, M>(m, key, record);
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
    leave::<F, M>(m, record)
}
