//! Finds a source port for a new flow: one that makes its reverse key unique.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::flow::twin;
use svc_common::datapath::port_hash::port_hash;
use svc_common::datapath::select::snat_port;
use svc_common::datapath::state::{CLOSED_PORT_REST, age, is_expired};
use svc_common::wire::checksum::Wsum;

use crate::maps::{CONFIG, PORT_SECRET, Scratch};
use crate::net::Net;
use crate::twin::{is_twin, put_twin_key};

/// Inserts the reverse record under a key that no other live flow has, trying source ports until one is free
/// (SEM-080). The first try is the client's own port, or a fixed function of the client if a port of the SNAT range
/// is needed. The last choice is the port of a recently closed connection, whose backend may still be in TIME_WAIT, or of one
/// that is not assured. An assured flow keeps its port.
#[inline(always)]
pub fn claim<F: Net>(takes_port: bool, now: u32) -> bool {
    let config = CONFIG.load();
    let Some(Scratch { claim, record, .. }) = F::scratch() else { return false };
    claim.port_delta = record.port_delta;
    claim.hash = port_hash::<F>(PORT_SECRET.get(0).copied().unwrap_or_default(), &claim.key);
    (claim.now, claim.tries, claim.rest, claim.resting_port) = (now, 0, 0, 0);
    (claim.takes_port, claim.takes_resting, claim.is_done) = (takes_port as u8, 0, 0);
    let of_range = limits::SNAT_TRIES.min(config.snat_count as u32);
    // `bpf_loop` instead of a loop: the verifier walks its body once, not once per attempt.
    // SAFETY: the callback has the helper's signature and takes no pointer.
    unsafe {
        let step: extern "C" fn(u32, *mut c_void) -> i64 = claim_step::<F>;
        let nothing = core::ptr::null_mut();
        bpf_loop(of_range + !takes_port as u32, step as *mut c_void, nothing, 0);
        // Looked up again: the compiler assumes that nothing else writes behind a reference.
        if let Some(Scratch { claim, .. }) = F::scratch()
            && claim.is_done == 0
            && claim.resting_port != 0
        {
            claim.takes_resting = 1;
            release_idle_owner::<F>();
            bpf_loop(1, step as *mut c_void, nothing, 0);
        }
    }
    F::scratch().is_some_and(|scratch| scratch.claim.is_done != 0)
}

/// Removes the forward record of the flow that is about to lose its port, unless it is closed: its next packet begins a flow
/// with another port, instead of sharing this one.
#[inline(never)]
fn release_idle_owner<F: Net>() -> u32 {
    let Some(Scratch { record, found: owner, reverse_key, forward_key, claim, .. }) = F::scratch() else {
        return 0;
    };
    let proto = claim.key.proto;
    record.sport = Port::from_be(claim.resting_port);
    put_twin_key::<F>(proto, record, reverse_key);
    if !F::copy_flow(reverse_key, owner) || owner.state.is_closing(proto) {
        return 0;
    }
    put_twin_key::<F>(proto, owner, forward_key);
    if let Some(forward) = F::present_flow(forward_key)
        && is_twin(reverse_key, owner, forward)
    {
        F::remove_flow(forward_key);
    }
    1
}

/// One attempt; 1 ends the search.
extern "C" fn claim_step<F: Net>(_: u32, _: *mut c_void) -> i64 {
    let Some(Scratch { record, reverse, reverse_key, found: owner, claim, .. }) = F::scratch() else {
        return 1;
    };
    let key = &claim.key;
    claim.tries = claim.tries.wrapping_add(1);
    if claim.takes_port != 0 || claim.tries > 1 {
        let port: Port = if claim.takes_resting != 0 {
            Port::from_be(claim.resting_port)
        } else {
            // The client's own port does not count as a port of the range.
            let of_range = claim.tries.wrapping_sub(1 + (claim.takes_port == 0) as u32);
            let config = CONFIG.load();
            snat_port(claim.hash, of_range, config.snat_first, config.snat_ring)
        };
        record.sport = port;
        record.port_delta = claim.port_delta.plus(Wsum(port.be() as u32)).minus(Wsum(key.sport.be() as u32));
    }
    put_twin_key::<F>(key.proto, record, reverse_key);
    twin::<F>(key, record, reverse);
    // An insert takes the memory of an old record before it finds that its key is taken. So later tries look the key up
    // first. The first try mostly succeeds.
    let is_taken = claim.tries > 1 && F::present_flow(reverse_key).is_some();
    if !is_taken && F::claim_flow(reverse_key, reverse) {
        claim.is_done = 1;
        return 1;
    }
    // If a flow table is being replaced, `claim_flow` has carried over an owner there.
    let may_take = match F::copy_flow(reverse_key, owner) {
        true => {
            // The owner is an old flow of this client, or has expired.
            let is_own = owner.dst == key.src
                && owner.dport == key.sport
                && owner.src == key.dst
                && owner.sport == key.dport;
            let rest = age(claim.now, owner.stamp);
            let is_closed = owner.state.is_closing(key.proto);
            let is_idle = !owner.state.is_assured(key.proto) && rest >= limits::UNASSURED_PORT_REST;
            // Only TCP has TIME_WAIT. Other clients keep their own port: their stack considers it free, because it
            // knows the Service's address and not the backend's.
            let needs_no_rest = key.proto != Proto::TCP && claim.takes_port == 0 && claim.tries == 1;
            let is_chosen = claim.takes_resting != 0;
            let has_rested = is_closed && (rest >= CLOSED_PORT_REST || needs_no_rest);
            if (is_closed || is_idle) && (claim.resting_port == 0 || rest > claim.rest) {
                claim.rest = rest;
                claim.resting_port = reverse_key.dport.be();
            }
            let is_over = is_own || has_rested || is_expired(key.proto, owner.state, claim.now, owner.stamp);
            is_over || is_chosen && (is_closed || is_idle)
        }
        false => true,
    };
    if may_take {
        claim.is_done = F::put_flow(reverse_key, reverse) as u8;
        return 1;
    }
    (claim.resting_port != 0 && claim.tries > limits::SNAT_TRIES_AT_REST) as i64
}
