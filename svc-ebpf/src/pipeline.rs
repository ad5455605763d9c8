//! The way of a packet: its record, or a new flow's; then rewrite and go on. Nothing is written to a packet before
//! its verdict is known.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::flow::{knows_twin, twin, twin_key};
use svc_common::datapath::state::{age, is_expired, observe, observe_time};
use svc_common::wire::icmp::{Icmp, Problem};
use svc_common::wire::ip::{Ports, tcp};
use svc_common::wire::parse::{Packet, Shape, Skip};

use core::ffi::c_void;

use crate::bypass;
use crate::fib::{self, FibWords};
use crate::give_way;
use crate::hook::Medium;
use crate::icmp::Reject;
use crate::new_flow::{Outcome, new_flow};
use crate::other::{self, Verdict};
use crate::quoted::{self, delta_of};
use crate::sctp;
use crate::tables::{Tables, count, count_service, now};

/// What a family brings to the kernel.
pub trait Net: Tables + FibWords + Icmp {}
impl<F: Tables + FibWords + Icmp> Net for F {}

/// A packet that came in by a pod interface or an uplink.
#[inline(always)]
pub fn ingress<F: Net, M: Medium + Reject>(m: &M, role: Role) -> i32 {
    let packet = match F::parse(&m.frame(), M::L3) {
        Ok(packet) => packet,
        Err(why) => return untupled::<F, M>(m, role, why),
    };
    // The other fragments are the stack's hook's to find.
    if (M::BEFORE_STACK && packet.shape.has(Shape::FRAGMENT))
        || !m.has_arrived(packet.len)
        || !m.is_ours(role)
    {
        return m.pass();
    }
    let now = now();
    // What only the table that is being replaced has is the other way's to find.
    let known = match F::present_flow(&packet.key) {
        Some(record) => unless_over::<F, M>(m, &packet, record, now),
        None => None,
    };
    let record = match known {
        Some(record) => {
            if M::BEFORE_STACK && record.way != Way::REDIRECT {
                return m.pass();
            }
            touch::<F, M>(m, &packet, record, now);
            record
        }
        None => match new_flow::<F, M>(m, role, &packet) {
            Outcome::BEGUN => match F::scratch() {
                Some(scratch) => &mut scratch.record,
                None => return m.pass(),
            },
            Outcome::PASS => return m.pass(),
            Outcome::NO_ENDPOINT => return m.reject::<F>(&packet, Problem::NO_ENDPOINT),
            Outcome::UNKNOWN_PORT => return m.reject::<F>(&packet, Problem::UNKNOWN_PORT),
            _ => return m.drop(),
        },
    };
    if packet.shape.has(Shape::FRAGMENT) {
        other::remember::<F, M>(m, &packet.key);
    }
    send::<F, M>(m, &packet, record)
}

/// The record, if it is of this hook and its flow is not over.
#[inline(always)]
pub fn unless_over<'a, F: Net, M: Medium>(
    m: &M,
    packet: &Packet<F::Addr>,
    record: &'a mut FlowRecord<F::Addr>,
    now: u32,
) -> Option<&'a mut FlowRecord<F::Addr>> {
    if record.hook != Hook::INGRESS {
        return None;
    }
    let gives_way = gives_way(packet, record, now);
    if gives_way && !M::BEFORE_STACK && packet.tcp_flags & tcp::ACK != 0 {
        give_way::to_answer::<F, M>(m, &packet.key);
    }
    if gives_way { None } else { Some(record) }
}

/// A packet that came in and has no tuple.
#[inline(always)]
fn untupled<F: Net, M: Medium + Reject>(m: &M, role: Role, why: Skip) -> i32 {
    match why {
        // Rare enough for the stack's hook.
        _ if M::BEFORE_STACK => m.pass(),
        Skip::Fragment => other::fragment::<F, M>(m, Hook::INGRESS, role),
        Skip::OtherProtocol => match other::portless::<F, M>(m, Hook::INGRESS, role) {
            Verdict::UNKNOWN_PORT => match F::scratch() {
                Some(scratch) => m.reject::<F>(&scratch.packet, Problem::UNKNOWN_PORT),
                None => m.pass(),
            },
            Verdict::QUOTES => quoted::<F, M>(m, Hook::INGRESS, role),
            action => action,
        },
        Skip::Truncated | Skip::Malformed | Skip::TooManyHeaders => m.pass(),
    }
}

/// An ICMP error.
#[inline(always)]
fn quoted<F: Net, M: Medium>(m: &M, hook: Hook, role: Role) -> i32 {
    match quoted::find::<F, M>(m, hook, role) {
        Verdict::QUOTES => quoted::translate::<F, M>(m, hook, role),
        action => action,
    }
}

/// A packet on its way to a pod or to the outside: a reply of a local backend, or nothing of ours.
#[inline(always)]
pub fn egress<F: Net, M: Medium>(m: &M, hook: Hook) -> i32 {
    let packet = match F::parse(&m.frame(), M::L3) {
        Ok(packet) => packet,
        Err(Skip::OtherProtocol) => {
            return match other::portless::<F, M>(m, hook, Role::NONE) {
                Verdict::QUOTES => quoted::<F, M>(m, hook, Role::NONE),
                action => action,
            };
        }
        Err(Skip::Fragment) => return other::fragment::<F, M>(m, hook, Role::NONE),
        Err(_) => return m.pass(),
    };
    let record = match F::flow(&packet.key) {
        None => bypass::leaving_record::<F, M>(m, &packet),
        found => found,
    };
    match record {
        Some(record) if record.hook == hook => {
            let now = now();
            // A datagram flow that has expired counts as absent, also where nobody has removed it.
            let proto = packet.key.proto;
            if proto != Proto::TCP && is_expired(proto, record.state, now, record.stamp) {
                return m.pass();
            }
            if packet.shape.has(Shape::FRAGMENT) {
                other::remember::<F, M>(m, &packet.key);
            }
            touch::<F, M>(m, &packet, record, now);
            if rewrite::<F, M>(m, &packet, record, 0) { m.pass() } else { failed(m) }
        }
        _ => m.pass(),
    }
}

/// A new connection may take the tuple of one that is over: a client's, by its SYN; or one of the node's own, whose source
/// port nf_conntrack has taken from ours, by the SYN-ACK that answers it.
#[inline(always)]
fn gives_way<A>(packet: &Packet<A>, record: &FlowRecord<A>, now: u32) -> bool {
    let proto = packet.key.proto;
    if proto == Proto::TCP {
        let answers = packet.tcp_flags & tcp::SYN != 0 && record.direction == Direction::REVERSE;
        (is_syn(packet) || answers)
            && (record.state.is_closing() || is_expired(proto, record.state, now, record.stamp))
    } else {
        is_expired(proto, record.state, now, record.stamp)
    }
}

#[inline(always)]
pub fn is_syn<A>(packet: &Packet<A>) -> bool {
    packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
}

/// Keeps the record's state and, once a tick, its stamp, its next hop and its twin.
#[inline(always)]
pub fn touch<F: Net, M: Medium>(m: &M, packet: &Packet<F::Addr>, record: &mut FlowRecord<F::Addr>, now: u32) {
    let state = observe(record.state, record.direction, packet.key.proto, packet.tcp_flags);
    let is_unresolved = record.way == Way::REDIRECT && !record.is_resolved();
    if state != record.state || record.stamp != now || is_unresolved {
        record.state = state;
        refresh::<F>(m.ctx(), m.ifindex(), &packet.key, record);
    }
}

/// The rare part of a touch. Takes the next hop from the routing table anew; both records of the flow learn what
/// either has seen; and a missing one is made again. A call of its own for the sake of its stack.
#[inline(never)]
fn refresh<F: Net>(
    ctx: *mut c_void,
    ifindex: u32,
    key: &FlowKey<F::Addr>,
    record: &mut FlowRecord<F::Addr>,
) -> u32 {
    let now = now();
    record.state = observe_time(record.state, key.proto, age(now, record.stamp));
    record.stamp = now;
    if record.way == Way::REDIRECT {
        // An answer without a route leaves the old next hop: better late than dropped.
        fib::next_hop_of::<F>(ctx, ifindex, key, record);
    }
    let other_key = twin_key::<F>(key.proto, record);
    if let Some(other) = F::flow(&other_key) {
        // Another flow may have taken the place since; a server on the node may answer from another address.
        let is_twin = (other.dst == key.src || record.any_source != 0)
            && other.dport == key.sport
            && other.src == key.dst
            && other.sport == key.dport;
        if !is_twin {
            return 0;
        }
        let state = FlowState(other.state.0 | record.state.0);
        other.state = state;
        record.state = state;
        // One clock for both directions, as nf_conntrack: a stream that only one side feeds lives (SEM-123).
        other.stamp = record.stamp;
    } else if knows_twin(record)
        // What is over leaves its tuple to whoever has taken it.
        && !record.state.is_closing()
        && let Some(scratch) = F::scratch()
    {
        twin::<F>(key, record, &mut scratch.reverse);
        if F::claim_flow(&other_key, &scratch.reverse) {
            count(Counter::FlowTwinRestored);
        }
    }
    0
}

/// Rewrites a packet by its record and sends it the record's way.
#[inline(always)]
fn send<F: Net, M: Medium + Reject>(m: &M, packet: &Packet<F::Addr>, record: &FlowRecord<F::Addr>) -> i32 {
    if record.way == Way::STACK {
        return if rewrite::<F, M>(m, packet, record, 0) { m.pass() } else { failed(m) };
    }
    let is_resolved = record.is_resolved();
    let is_redirect = record.way == Way::REDIRECT;
    if is_redirect {
        if M::BEFORE_STACK && !(is_resolved && m.reaches(record.oif)) {
            return m.pass();
        }
        if m.exceeds(packet.len, (packet.l4 - M::L3) as u32 + packet.l4_len as u32, record.mtu) {
            return m.reject::<F>(packet, Problem::too_big(record.mtu));
        }
        if packet.ttl <= 1 {
            return m.reject::<F>(packet, Problem::TIME_EXCEEDED);
        }
    }
    if rewrite::<F, M>(m, packet, record, is_redirect as u8) { leave::<F, M>(m, record) } else { failed(m) }
}

/// Sends a packet that has been rewritten the record's way.
#[inline(always)]
pub fn leave<F: Net, M: Medium>(m: &M, record: &FlowRecord<F::Addr>) -> i32 {
    if record.way == Way::STACK {
        return m.pass();
    }
    if record.way != Way::REDIRECT {
        return if swap_macs(m) { m.redirect(m.ifindex()) } else { failed(m) };
    }
    if !m.add_link_header::<F>() {
        return failed(m);
    }
    let (oif, smac, dmac) = (record.oif, record.smac, record.dmac);
    if record.is_resolved() {
        if write_macs(m, dmac, smac) { m.redirect(oif) } else { failed(m) }
    } else {
        m.redirect_neigh(oif)
    }
}

#[inline(always)]
fn failed<M: Medium>(m: &M) -> i32 {
    count(Counter::DropRewrite);
    m.drop()
}

/// Writes the record's tuple into the packet, and counts it for its service.
#[inline(always)]
fn rewrite<F: Net, M: Medium>(
    m: &M,
    packet: &Packet<F::Addr>,
    record: &FlowRecord<F::Addr>,
    hops: u8,
) -> bool {
    let addr = delta_of::<F>(record, packet.key.src, packet.key.dst);
    let port = record.port_delta;
    let frame = m.frame();
    let (Some(ip), Some(ports)) = (frame.at::<F::Header>(M::L3), frame.at::<Ports>(packet.l4)) else {
        return false;
    };
    if packet.key.proto == Proto::SCTP && !sctp::fix::<F, M>(m, packet, record, hops) {
        return false;
    }
    // SAFETY: `at` checked the bounds of both; they do not overlap.
    unsafe {
        F::rewrite(&mut *ip, record.src, record.dst, addr, hops);
        ports.write(Ports { src: record.sport.be(), dst: record.dport.be() });
    }
    count_service(record.service, 0, 1, packet.len as u64);
    packet.key.proto == Proto::SCTP || m.fix_checksum::<F>(packet.l4, packet.key.proto, addr, port, hops)
}

#[inline(always)]
fn write_macs<M: Medium>(m: &M, dmac: [u8; 6], smac: [u8; 6]) -> bool {
    let Some(p) = m.frame().at::<[u16; 6]>(0) else { return false };
    let h = |a: u8, b: u8| u16::from_ne_bytes([a, b]);
    // SAFETY: `at` checked the bounds.
    unsafe {
        p.write([
            h(dmac[0], dmac[1]),
            h(dmac[2], dmac[3]),
            h(dmac[4], dmac[5]),
            h(smac[0], smac[1]),
            h(smac[2], smac[3]),
            h(smac[4], smac[5]),
        ]);
    }
    true
}

#[inline(always)]
fn swap_macs<M: Medium>(m: &M) -> bool {
    let Some(p) = m.frame().at::<[u16; 6]>(0) else { return false };
    // SAFETY: `at` checked the bounds.
    unsafe {
        let [a, b, c, d, e, f] = p.read();
        p.write([d, e, f, a, b, c]);
    }
    true
}
