//! Direct connections that have the tuple of a translated flow towards the backend: their replies would be translated.
//! While the flow is open, the direct connection gets another source port, as from nf_conntrack. Else the flow is
//! removed.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::state::is_expired;

use crate::hook::PacketAccess;
use crate::maps::Scratch;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::tables::{count, iface, is_own, migration, now};
use crate::twin::put_twin_key;

/// Called for a packet that a client sends to a backend directly, and that may begin a connection. `DIRECT` if the
/// client has an open translated flow from the same port to that backend; that flow's forward record is in the scratch
/// space then. A call of its own, because its callers have no stack left.
#[inline(never)]
pub fn direct<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    seek_flow_of_direct::<F>(key);
    if let Some(has_forward) = conflicting_flow::<F>()
        && let Some(Scratch { found: back, first: own, .. }) = F::scratch()
    {
        let is_over =
            back.state.is_closing(key.proto) || is_expired(key.proto, back.state, now(), back.stamp);
        // The second flow of a masquerade through the stack has the direct packet's own tuple.
        if has_forward && !is_over && (!F::copy_flow(key, own) || own.hook == Hook::INGRESS) {
            return Outcome::DIRECT;
        }
        remove_conflicting_flow::<F>(has_forward);
    }
    remove_second_flow::<F>(key);
    Outcome::PASS
}

/// Called for a datagram that the node itself sends to a backend, from a source port of the masquerade. A call of its
/// own, as above.
#[inline(never)]
pub fn release_for_direct<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    seek_flow_of_direct::<F>(key);
    if let Some(has_forward) = conflicting_flow::<F>() {
        remove_conflicting_flow::<F>(has_forward);
    }
    remove_second_flow::<F>(key);
    0
}

/// Leaves the tuple of the replies to a direct packet in the scratch space, as reverse key.
#[inline(always)]
fn seek_flow_of_direct<F: Net>(key: &FlowKey<F::Addr>) {
    let Some(Scratch { reverse_key, .. }) = F::scratch() else { return };
    // Field by field, without a copy on the stack.
    reverse_key.dst = key.src;
    (reverse_key.sport, reverse_key.dport) = (key.dport, key.sport);
    (reverse_key.proto, reverse_key._pad) = (key.proto, [0; 3]);
    // A datagram server on the node may answer from any of its addresses: its flows' reverse key has no source
    // address.
    if key.proto == Proto::UDP && is_own::<F>(&key.dst) {
        reverse_key.src = F::Addr::default();
    } else {
        reverse_key.src = key.dst;
    }
}

/// The second flow of a masquerade through the stack looks like a direct connection. That one must keep its source.
#[inline(always)]
fn remove_second_flow<F: Net>(key: &FlowKey<F::Addr>) {
    if let Some(Scratch { found, .. }) = F::scratch()
        && F::copy_flow(key, found)
        && found.hook != Hook::INGRESS
        && found.direction == Direction::FORWARD
    {
        F::remove_flow(key);
    }
}

/// Called for the reply to a direct connection whose SYN passed none of our hooks.
#[inline(never)]
pub fn release_for_reply<F: Net, M: PacketAccess>(m: &M, key: &FlowKey<F::Addr>) -> u32 {
    let Some(Scratch { reverse_key, .. }) = F::scratch() else { return 0 };
    // A frame that is addressed to another machine is not a reply to this node.
    if iface(m.ifindex()).is_some_and(|i| !m.is_addressed_to(i)) {
        return 0;
    }
    (reverse_key.src, reverse_key.dst) = (key.src, key.dst);
    (reverse_key.sport, reverse_key.dport) = (key.sport, key.dport);
    (reverse_key.proto, reverse_key._pad) = (key.proto, [0; 3]);
    if let Some(has_forward) = conflicting_flow::<F>() {
        remove_conflicting_flow::<F>(has_forward);
    }
    0
}

/// Removes the flow under the scratch space's reverse key, and the forward record under its forward key.
#[inline(always)]
fn remove_conflicting_flow<F: Net>(has_forward: bool) {
    let Some(Scratch { reverse_key, forward_key, .. }) = F::scratch() else { return };
    if has_forward {
        F::remove_flow(forward_key);
    }
    F::remove_flow(reverse_key);
    count(Counter::FlowGaveWay);
}

/// Finds both records of the flow under the scratch space's reverse key; `Some(true)` if it has a forward record. Leaves
/// copies in the scratch space, as `found` and `record`, and the forward key. The client may have begun a flow to another
/// backend with its tuple since. That flow is not removed.
#[inline(always)]
fn conflicting_flow<F: Net>() -> Option<bool> {
    let Scratch { reverse_key, forward_key, found, record: forward, .. } = F::scratch()?;
    // Written out instead of calling `flow`: Linux 6.1 allows no further call frame below a new flow.
    let is_migrating = migration() != Migration::NONE;
    if is_migrating {
        F::carry_over(reverse_key);
    }
    if !F::copy_flow(reverse_key, found) || found.direction != Direction::REVERSE {
        return None;
    }
    put_twin_key::<F>(reverse_key.proto, found, forward_key);
    if is_migrating {
        F::carry_over(forward_key);
    }
    Some(
        F::copy_flow(forward_key, forward)
            && forward.dport == reverse_key.sport
            && (forward.wildcard_source != 0 || forward.dst == reverse_key.src),
    )
}
