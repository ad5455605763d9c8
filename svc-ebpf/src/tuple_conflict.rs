//! Removes flows whose tuple is needed by a direct connection between the same ports: its replies would be
//! translated.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::flow::twin_key;

use crate::hook::PacketAccess;
use crate::maps::Scratch;
use crate::net::Net;
use crate::tables::{count, iface, is_own, migration};

/// Called for a packet that a client sends to a backend directly. If the client has a translated flow from the same
/// port to that backend, the direct replies would be translated, so the flow is removed. A call of its own, because
/// its callers have no stack left.
#[inline(never)]
pub fn release_for_direct<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    let Some(Scratch { reverse_key, .. }) = F::scratch() else { return 0 };
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
    remove_conflicting_flow::<F>();
    // The second flow of a masquerade through the stack looks like such a direct connection. The direct connection
    // must keep its source.
    if let Some(record) = F::present_flow(key)
        && record.hook != Hook::INGRESS
        && record.direction == Direction::FORWARD
    {
        F::remove_flow(key);
    }
    0
}

/// Called for the reply to a direct connection whose SYN passed none of our hooks.
#[inline(never)]
pub fn release_for_reply<F: Net, M: PacketAccess>(m: &M, key: &FlowKey<F::Addr>) -> u32 {
    let Some(Scratch { reverse_key, .. }) = F::scratch() else { return 0 };
    // A frame addressed to another machine is no such reply.
    if iface(m.ifindex()).is_some_and(|i| !m.is_addressed_to(i)) {
        return 0;
    }
    (reverse_key.src, reverse_key.dst) = (key.src, key.dst);
    (reverse_key.sport, reverse_key.dport) = (key.sport, key.dport);
    (reverse_key.proto, reverse_key._pad) = (key.proto, [0; 3]);
    remove_conflicting_flow::<F>();
    0
}

/// Removes the flow under the scratch space's reverse key.
#[inline(always)]
fn remove_conflicting_flow<F: Net>() {
    let Some(Scratch { reverse_key, forward_key, .. }) = F::scratch() else { return };
    // Written out instead of calling `flow`: Linux 6.1 allows no further call frame below a new flow.
    let is_migrating = migration() != Migration::NONE;
    if is_migrating {
        F::carry_over(reverse_key);
    }
    let Some(record) = F::present_flow(reverse_key) else { return };
    if record.direction == Direction::REVERSE {
        *forward_key = twin_key::<F>(reverse_key.proto, record);
        // The client may have begun a flow to another backend with this tuple since. That one must not be removed.
        if is_migrating {
            F::carry_over(forward_key);
        }
        if let Some(forward) = F::present_flow(forward_key)
            && forward.dport == reverse_key.sport
            && (forward.wildcard_source != 0 || forward.dst == reverse_key.src)
        {
            F::remove_flow(forward_key);
        }
        F::remove_flow(reverse_key);
        count(Counter::FlowGaveWay);
    }
}
