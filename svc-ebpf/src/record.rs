//! Flow records: finds the record of a packet, keeps it up to date, and recognises packets that begin a new flow.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::flow::{can_make_twin, twin, twin_key};
use svc_common::datapath::state::{age, is_expired, observe, observe_time, shared};
use svc_common::wire::checksum::Wsum;
use svc_common::wire::ip::tcp;
use svc_common::wire::parse::Packet;

use crate::fib;
use crate::hook::PacketAccess;
use crate::net::Net;
use crate::tables::{count, is_own, now};
use crate::tuple_conflict;
use crate::twin::is_twin;

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

/// A new connection may take the tuple of a closed one. Either a client reuses it with a SYN, or nf_conntrack gave
/// our source port to a connection of the node, and a SYN-ACK answers that.
#[inline(always)]
fn reuses_tuple<A>(packet: &Packet<A>, record: &FlowRecord<A>, now: u32) -> bool {
    let proto = packet.key.proto;
    if proto == Proto::TCP {
        let answers = packet.tcp_flags & tcp::SYN != 0 && record.direction == Direction::REVERSE;
        (is_syn(packet) || answers)
            && (record.state.is_closing(proto) || is_expired(proto, record.state, now, record.stamp))
    } else {
        is_expired(proto, record.state, now, record.stamp)
    }
}

/// The packet may begin a connection between its endpoints themselves: any datagram may be the first of its socket.
/// Only hooks at the stack handle such packets; XDP leaves them to TC.
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
        m.refresh::<F>(&packet.key, record);
    }
}

/// The rare part of `touch`: looks the next hop up again, exchanges state between the two records, and makes a
/// missing one again.
#[inline(always)]
pub fn refresh<F: Net, M: PacketAccess>(
    m: &M,
    key: &FlowKey<F::Addr>,
    record: &mut FlowRecord<F::Addr>,
) -> u32 {
    let now = now();
    record.state = observe_time(record.state, key.proto, age(now, record.stamp));
    record.stamp = now;
    if record.has_next_hop() {
        // If there is no route any more, the old next hop stays: better late than dropped.
        fib::next_hop::<F>(m.ctx(), m.ifindex(), key, record);
    }
    let other_key = twin_key::<F>(key.proto, record);
    if let Some(other) = F::flow(&other_key) {
        if !is_twin(key, record, other) {
            return 0;
        }
        // Both directions share one clock, as in nf_conntrack: a stream with packets in only one direction lives
        // (SEM-123). The other direction's next packet looks its next hop up all the same.
        let is_due = other.has_next_hop() && other.stamp != record.stamp;
        (record.state, other.state) = shared(record.state, other.state, is_due);
        other.stamp = record.stamp;
    } else if can_make_twin(record)
        // A closed flow does not take its reverse tuple back.
        && !record.state.is_closing(key.proto)
        && let Some(scratch) = F::scratch()
    {
        twin::<F>(key, record, &mut scratch.reverse);
        scratch.reverse.state = record.state.with(FlowState::NEXT_HOP_DUE);
        let has_claimed = if record.state.is_assured(key.proto) {
            F::claim_assured(&other_key, &scratch.reverse)
        } else {
            F::claim_flow(&other_key, &scratch.reverse)
        };
        if has_claimed {
            count(Counter::FlowTwinRestored);
        }
    }
    0
}

/// The record of a tuple at a hook.
#[inline(always)]
pub fn record_at<F: Net>(key: &FlowKey<F::Addr>, hook: Hook) -> Option<&'static mut FlowRecord<F::Addr>> {
    record_by::<F>(key, hook, F::flow)
}

/// The record of a tuple at a hook, found by the look-up `flow`. A server bound to the wildcard address answers from
/// the address that the route prefers, so the wildcard record is tried as well.
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

/// The wildcard record, for a datagram from any address of the node.
#[inline(always)]
pub fn wildcard_record<F: Net>(
    key: &FlowKey<F::Addr>,
    look_up: impl Fn(&FlowKey<F::Addr>) -> Option<&'static mut FlowRecord<F::Addr>>,
) -> Option<&'static mut FlowRecord<F::Addr>> {
    let wild = &mut F::scratch()?.reverse_key;
    // Field by field: a whole assignment becomes a call of memcpy, which needs its own stack frame.
    (wild.src, wild.dst) = (F::Addr::default(), key.dst);
    (wild.sport, wild.dport, wild.proto, wild._pad) = (key.sport, key.dport, key.proto, [0; 3]);
    look_up(wild)
}

/// Change of a sum over a packet's addresses by a record. It is computed if the record's key does not have the source
/// address.
#[inline(always)]
pub fn addr_delta<F: Net>(key: &FlowKey<F::Addr>, record: &FlowRecord<F::Addr>) -> Wsum {
    if record.wildcard_source != 0 && record.direction == Direction::REVERSE {
        Wsum(F::wildcard_delta(key, record))
    } else {
        record.addr_delta
    }
}
