//! Path of a packet: find its record or begin a flow, rewrite, send. Nothing is written to a packet before its
//! verdict is known.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::presence::{incoming, leaving};
use svc_common::datapath::state::is_expired;
use svc_common::wire::icmp::Problem;
use svc_common::wire::ip::Ports;
use svc_common::wire::parse::{Packet, Shape, Skip};

use crate::bypass;
use crate::choose::{is_unallocated, pass_unserved};
use crate::hook::{PacketAccess, Reject};
use crate::icmp_inner;
use crate::net::Net;
use crate::new_flow::new_flow;
use crate::no_ports::{self, Verdict};
use crate::outcome::Outcome;
use crate::record::{addr_delta, begins_connection, touch, unexpired};
use crate::resume::{has_flow, resume_leaving};
use crate::sctp;
use crate::send::{drop_unwritable, forward_out};
use crate::tables::{count, count_service, presence, tick};

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
    // Records that the flow table does not have are found on the path of new flows.
    let known = match F::assured_flow(&packet.key) {
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
        Verdict::NO_FLOW => no_ports::unserved_error::<F, M>(m, role),
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
    // Before the presence filter is asked: ports of the masquerade have no marks in it.
    if bypass::is_stray_reset::<F, M>(m, &packet) && !has_flow::<F>(&packet.key) {
        count(Counter::DropStrayReset);
        return m.drop();
    }
    let Some(presence) = presence() else { return m.pass() };
    if !leaving::<F>(&packet.key, presence) {
        return m.pass();
    }
    let record = match F::assured_flow(&packet.key) {
        Some(record) if record.hook == hook => {
            let now = tick();
            // An expired datagram flow counts as absent even before the daemon removes it.
            let proto = packet.key.proto;
            if proto != Proto::TCP && is_expired(proto, record.state, now, record.stamp) {
                return m.pass();
            }
            touch::<F, M>(m, &packet, record, now);
            record
        }
        Some(_) => return m.pass(),
        None => match F::scratch() {
            Some(scratch) if resume_leaving::<F, M>(m, &packet, hook) != 0 => &mut scratch.record,
            _ => return m.pass(),
        },
    };
    if packet.shape.has(Shape::FRAGMENT) {
        no_ports::remember::<F, M>(m, &packet.key);
    }
    if !rewrite::<F, M>(m, &packet, record, 0) {
        return drop_unwritable(m);
    }
    // A packet without Ethernet header cannot be redirected as it is.
    if record.exit != Exit::STACK_BY_SOURCE || M::L3 == 0 || record.oif == 0 || record.oif == m.ifindex() {
        return m.pass();
    }
    m.redirect_neigh(record.oif, None)
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
        if !is_resolved && record.oif == 0 {
            count(Counter::DropNoRoute);
            return m.drop();
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

/// Writes the record's tuple into the packet, and counts it for its service.
#[inline(always)]
fn rewrite<F: Net, M: PacketAccess>(
    m: &M,
    packet: &Packet<F::Addr>,
    record: &FlowRecord<F::Addr>,
    hops: u8,
) -> bool {
    let addr = addr_delta::<F>(&packet.key, record);
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
