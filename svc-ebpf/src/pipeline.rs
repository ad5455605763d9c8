//! Path of a packet: find its record or begin a flow, rewrite, send. Nothing is written to a packet before its
//! verdict is known.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::flow::{can_make_twin, twin, twin_key};
use svc_common::datapath::presence::{incoming, leaving};
use svc_common::datapath::state::{age, is_expired, observe, observe_time, shared};
use svc_common::wire::icmp::{Icmp, Problem};
use svc_common::wire::ip::{Ports, tcp};
use svc_common::wire::parse::{Packet, Shape, Skip};

use core::ffi::c_void;

use crate::bypass;
use crate::choose::{is_unallocated, pass_unserved};
use crate::fib::{self, FibWords};
use crate::global::Global;
use crate::hook::PacketAccess;
use crate::icmp::Reject;
use crate::icmp_inner::{self, delta_of};
use crate::new_flow::{Outcome, new_flow};
use crate::no_ports::{self, Verdict};
use crate::sctp;
use crate::tables::{Tables, count, count_service, now, presence, tick};
use crate::tuple_conflict;

/// All that the pipeline needs of an address family.
pub trait Net: Tables + FibWords + Icmp + Global {}
impl<F: Tables + FibWords + Icmp + Global> Net for F {}

/// Handles a packet that came in by a pod interface or an uplink.
#[inline(always)]
pub fn ingress<F: Net, M: PacketAccess + Reject>(m: &M, role: Role) -> i32 {
    let packet = match F::parse(&m.frame(), M::L3) {
        Ok(packet) => packet,
        Err(why) => return without_tuple::<F, M>(m, role, why),
    };
    let Some(presence) = presence() else { return m.pass() };
    if !incoming::<F>(&packet.key, begins_connection::<F, M>(&packet), presence)
        && !is_unallocated::<F>(&packet.key.dst)
    {
        return pass_unserved::<F, M>(m, role, &packet.key.dst);
    }
    // Other fragments are left to the TC hook.
    if (M::BEFORE_STACK && packet.shape.has(Shape::FRAGMENT))
        || !m.is_complete(packet.len)
        || !m.is_ours(role)
    {
        return m.pass();
    }
    let now = tick();
    // Records that only the replaced table has are found on the path of new flows.
    let known = match F::present_flow(&packet.key) {
        Some(record) => unexpired::<F, M>(m, &packet, record, now),
        None => None,
    };
    let record = match known {
        Some(record) => {
            if M::BEFORE_STACK && record.exit != Exit::REDIRECT {
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
            Outcome::PASS => return pass_unserved::<F, M>(m, role, &packet.key.dst),
            Outcome::NO_ENDPOINT => return m.reject::<F>(&packet, Problem::NO_ENDPOINT),
            Outcome::UNKNOWN_PORT => return m.reject::<F>(&packet, Problem::UNKNOWN_PORT),
            _ => return m.drop(),
        },
    };
    if packet.shape.has(Shape::FRAGMENT) {
        no_ports::remember::<F, M>(m, &packet.key);
    }
    translate_and_forward::<F, M>(m, &packet, record)
}

/// Returns the record if it is for this hook and the flow has not expired.
#[inline(always)]
pub fn unexpired<'a, F: Net, M: PacketAccess>(
    m: &M,
    packet: &Packet<F::Addr>,
    record: &'a mut FlowRecord<F::Addr>,
    now: u32,
) -> Option<&'a mut FlowRecord<F::Addr>> {
    if record.hook != Hook::INGRESS {
        return None;
    }
    let is_reused = reuses_tuple(packet, record, now);
    if is_reused && !M::BEFORE_STACK && packet.tcp_flags & tcp::ACK != 0 {
        tuple_conflict::release_for_reply::<F, M>(m, &packet.key);
    }
    if is_reused { None } else { Some(record) }
}

/// Handles an incoming packet without a tuple.
#[inline(always)]
fn without_tuple<F: Net, M: PacketAccess + Reject>(m: &M, role: Role, why: Skip) -> i32 {
    match why {
        // Rare, so left to the TC hook.
        _ if M::BEFORE_STACK => m.pass(),
        Skip::Fragment => no_ports::fragment::<F, M>(m, Hook::INGRESS, role),
        Skip::OtherProtocol => match no_ports::other_protocol::<F, M>(m, Hook::INGRESS, role) {
            Verdict::UNKNOWN_PORT => match F::scratch() {
                Some(scratch) => m.reject::<F>(&scratch.packet, Problem::UNKNOWN_PORT),
                None => m.pass(),
            },
            Verdict::QUOTES => icmp_error::<F, M>(m, Hook::INGRESS, role),
            action => action,
        },
        Skip::Truncated | Skip::Malformed | Skip::TooManyHeaders => m.pass(),
    }
}

/// Handles an ICMP error.
#[inline(always)]
fn icmp_error<F: Net, M: PacketAccess>(m: &M, hook: Hook, role: Role) -> i32 {
    match icmp_inner::find::<F, M>(m, hook, role) {
        Verdict::QUOTES => icmp_inner::translate::<F, M>(m, hook, role),
        action => action,
    }
}

/// Handles a packet that leaves towards a pod or the outside: a reply of a local backend, or a packet without a
/// record.
#[inline(always)]
pub fn egress<F: Net, M: PacketAccess>(m: &M, hook: Hook) -> i32 {
    let packet = match F::parse(&m.frame(), M::L3) {
        Ok(packet) => packet,
        Err(Skip::OtherProtocol) => {
            return match no_ports::other_protocol::<F, M>(m, hook, Role::NONE) {
                Verdict::QUOTES => icmp_error::<F, M>(m, hook, Role::NONE),
                action => action,
            };
        }
        Err(Skip::Fragment) => return no_ports::fragment::<F, M>(m, hook, Role::NONE),
        Err(_) => return m.pass(),
    };
    // Before the filter, which knows no ports of the masquerade.
    if bypass::is_stray_reset::<F, M>(m, &packet) && F::flow(&packet.key).is_none() {
        count(Counter::DropStrayReset);
        return m.drop();
    }
    let Some(presence) = presence() else { return m.pass() };
    if !leaving::<F>(&packet.key, presence) {
        return m.pass();
    }
    let record = match F::flow(&packet.key) {
        None => bypass::leaving_record::<F, M>(m, &packet),
        found => found,
    };
    match record {
        Some(record) if record.hook == hook => {
            let now = tick();
            // An expired datagram flow counts as absent even before the daemon removes it.
            let proto = packet.key.proto;
            if proto != Proto::TCP && is_expired(proto, record.state, now, record.stamp) {
                return m.pass();
            }
            if packet.shape.has(Shape::FRAGMENT) {
                no_ports::remember::<F, M>(m, &packet.key);
            }
            touch::<F, M>(m, &packet, record, now);
            if !rewrite::<F, M>(m, &packet, record, 0) {
                return drop_unwritable(m);
            }
            // A packet without Ethernet header cannot be redirected as it is.
            if record.exit != Exit::STACK_BY_SOURCE
                || M::L3 == 0
                || record.oif == 0
                || record.oif == m.ifindex()
            {
                return m.pass();
            }
            m.redirect_neigh(record.oif, None)
        }
        _ => m.pass(),
    }
}

/// A new connection may take the tuple of a closed one. Either a client reuses it with a SYN, or nf_conntrack gave
/// our source port to a connection of the node, and a SYN-ACK answers that.
#[inline(always)]
fn reuses_tuple<A>(packet: &Packet<A>, record: &FlowRecord<A>, now: u32) -> bool {
    let proto = packet.key.proto;
    if proto == Proto::TCP {
        let answers = packet.tcp_flags & tcp::SYN != 0 && record.direction == Direction::REVERSE;
        (is_syn(packet) || answers)
            && (record.state.is_closing() || is_expired(proto, record.state, now, record.stamp))
    } else {
        is_expired(proto, record.state, now, record.stamp)
    }
}

/// The packet may begin a connection between its endpoints themselves: any datagram may be the first of its socket. The
/// stack's hooks look after these.
#[inline(always)]
pub fn begins_connection<F: Net, M: PacketAccess>(packet: &Packet<F::Addr>) -> bool {
    !M::BEFORE_STACK && (packet.key.proto == Proto::UDP || is_syn(packet))
}

#[inline(always)]
pub fn is_syn<A>(packet: &Packet<A>) -> bool {
    packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
}

/// Updates the record's state and, once a tick, its stamp, next hop and the other direction's record.
#[inline(always)]
pub fn touch<F: Net, M: PacketAccess>(
    m: &M,
    packet: &Packet<F::Addr>,
    record: &mut FlowRecord<F::Addr>,
    now: u32,
) {
    let state = observe(record.state, record.direction, packet.key.proto, packet.tcp_flags);
    let is_unresolved = record.exit == Exit::REDIRECT && !record.is_resolved();
    if state != record.state || record.stamp != now || is_unresolved {
        record.state = state;
        refresh::<F>(m.ctx(), m.ifindex(), &packet.key, record);
    }
}

/// The rare part of `touch`: looks the next hop up again, exchanges state between the two records, and makes a
/// missing one again. A call of its own, because its callers have no stack left.
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
    if record.has_next_hop() {
        // If there is no route any more, the old next hop stays: better late than dropped.
        fib::next_hop::<F>(ctx, ifindex, key, record);
    }
    let other_key = twin_key::<F>(key.proto, record);
    if let Some(other) = F::flow(&other_key) {
        // Another flow may have the reverse tuple by now; a server on the node may answer from another address.
        let is_twin = (other.dst == key.src || record.wildcard_source != 0)
            && other.dport == key.sport
            && other.src == key.dst
            && other.sport == key.dport;
        if !is_twin {
            return 0;
        }
        // Both directions share one clock, as in nf_conntrack: a stream with packets in only one direction lives
        // (SEM-123). The other direction's next packet looks its next hop up all the same.
        let is_due = other.has_next_hop() && other.stamp != record.stamp;
        (record.state, other.state) = shared(record.state, other.state, is_due);
        other.stamp = record.stamp;
    } else if can_make_twin(record)
        // A closed flow does not take its reverse tuple back.
        && !record.state.is_closing()
        && let Some(scratch) = F::scratch()
    {
        twin::<F>(key, record, &mut scratch.reverse);
        scratch.reverse.state = record.state.with(FlowState::NEXT_HOP_DUE);
        if F::claim_flow(&other_key, &scratch.reverse) {
            count(Counter::FlowTwinRestored);
        }
    }
    0
}

/// Rewrites a packet by its record and sends it.
#[inline(always)]
fn translate_and_forward<F: Net, M: PacketAccess + Reject>(
    m: &M,
    packet: &Packet<F::Addr>,
    record: &FlowRecord<F::Addr>,
) -> i32 {
    if record.exit.is_stack() {
        return if rewrite::<F, M>(m, packet, record, 0) { m.pass() } else { drop_unwritable(m) };
    }
    let is_resolved = record.is_resolved();
    let is_redirect = record.exit == Exit::REDIRECT;
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
    if rewrite::<F, M>(m, packet, record, is_redirect as u8) {
        forward_out::<F, M>(m, record)
    } else {
        drop_unwritable(m)
    }
}

/// Sends a rewritten packet as its record says.
#[inline(always)]
pub fn forward_out<F: Net, M: PacketAccess>(m: &M, record: &FlowRecord<F::Addr>) -> i32 {
    if record.exit.is_stack() {
        return m.pass();
    }
    if record.exit != Exit::REDIRECT {
        return if swap_macs(m) { m.redirect(m.ifindex()) } else { drop_unwritable(m) };
    }
    if !m.add_link_header::<F>() {
        return drop_unwritable(m);
    }
    let (oif, smac, dmac) = (record.oif, record.smac, record.dmac);
    if record.is_resolved() {
        if write_macs(m, dmac, smac) { m.redirect(oif) } else { drop_unwritable(m) }
    } else {
        m.redirect_neigh(oif, fib::neighbor_of::<F>(record))
    }
}

#[inline(always)]
fn drop_unwritable<M: PacketAccess>(m: &M) -> i32 {
    count(Counter::DropRewrite);
    m.drop()
}

/// Writes the record's tuple into the packet, and counts it for its service.
#[inline(always)]
fn rewrite<F: Net, M: PacketAccess>(
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
fn write_macs<M: PacketAccess>(m: &M, dmac: [u8; 6], smac: [u8; 6]) -> bool {
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
fn swap_macs<M: PacketAccess>(m: &M) -> bool {
    let Some(p) = m.frame().at::<[u16; 6]>(0) else { return false };
    // SAFETY: `at` checked the bounds.
    unsafe {
        let [a, b, c, d, e, f] = p.read();
        p.write([d, e, f, a, b, c]);
    }
    true
}
