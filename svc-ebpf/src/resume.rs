//! Flows whose record is not in the flow table: those that are not assured yet, and those in a flow table that is being
//! replaced.
//!
//! Calls beside the established path take the place of branches of it, which the verifier would walk once per table.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::state::is_expired;
use svc_common::wire::parse::Packet;

use crate::bypass;
use crate::hook::PacketAccess;
use crate::maps::Scratch;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::record::{touch, unexpired};
use crate::tables::{migration, now};
use crate::twin::{is_twin, put_twin_key};

/// Finds such a record of a packet that came in, keeps it up to date, and leaves a copy in the scratch space as if the
/// flow had just begun.
#[inline(never)]
pub fn resume<F: Net, M: PacketAccess>(m: &M, packet: &Packet<F::Addr>) -> u32 {
    let now = now();
    let found = if migration() == Migration::NONE {
        F::unassured_flow(&packet.key)
    } else {
        F::carry_over(&packet.key);
        F::present_flow(&packet.key)
    };
    let Some(record) = found else { return Outcome::UNKNOWN };
    let Some(record) = unexpired::<F, M>(m, packet, record, now) else { return Outcome::UNKNOWN };
    if M::BEFORE_STACK && record.exit != Exit::REDIRECT {
        return Outcome::PASS;
    }
    touch::<F, M>(m, packet, record, now);
    leave_copy::<F>(packet, record);
    Outcome::BEGUN
}

/// The same for a packet that leaves: 1 if it has such a record at this hook.
#[inline(never)]
pub fn resume_leaving<F: Net, M: PacketAccess>(m: &M, packet: &Packet<F::Addr>, hook: Hook) -> u32 {
    let found = match F::unassured_flow(&packet.key) {
        None if migration() != Migration::NONE => F::flow(&packet.key),
        found => found,
    };
    let found = match found {
        None => bypass::leaving_record::<F, M>(m, packet),
        found => found,
    };
    let now = now();
    let proto = packet.key.proto;
    let Some(record) = found else { return 0 };
    if record.hook != hook || proto != Proto::TCP && is_expired(proto, record.state, now, record.stamp) {
        return 0;
    }
    touch::<F, M>(m, packet, record, now);
    leave_copy::<F>(packet, record);
    1
}

/// The tuple has a record in any table.
#[inline(always)]
pub fn has_flow<F: Net>(key: &FlowKey<F::Addr>) -> bool {
    is_known::<F>(key) != 0
}

#[inline(never)]
fn is_known<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    F::flow(key).is_some() as u32
}

/// Leaves a copy of the record in the scratch space: the record's memory may become another flow's once it has moved.
/// Moves it to the flow table if this packet has assured the flow.
#[inline(always)]
fn leave_copy<F: Net>(packet: &Packet<F::Addr>, record: &FlowRecord<F::Addr>) {
    let Some(scratch) = F::scratch() else { return };
    // Copied without the stack, unlike an assignment.
    // SAFETY: values of two maps do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(record, &mut scratch.record, 1) };
    if record.state.is_assured(packet.key.proto) {
        assure::<F>(&packet.key);
    }
}

/// Moves both records of a flow that is assured now to the flow table. The copy of the packet's own record is in the
/// scratch space. Records that are in the flow table already stay there.
#[inline(never)]
fn assure<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    let Some(Scratch { record, reverse_key, .. }) = F::scratch() else { return 0 };
    // A wildcard record has another key. It moves with the client's next packet.
    let Some(own) = F::unassured_flow(key) else { return 0 };
    put_twin_key::<F>(key.proto, record, reverse_key);
    if let Some(other) = F::unassured_flow(reverse_key)
        && is_twin(key, record, other)
    {
        F::assure_flow(reverse_key, other);
    }
    F::assure_flow(key, own);
    1
}
