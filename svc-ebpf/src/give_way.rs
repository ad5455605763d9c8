//! Flows that give way to direct connections between the same ports: their answers would be translated.

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::flow::twin_key;

use crate::hook::Medium;
use crate::maps::Scratch;
use crate::pipeline::Net;
use crate::tables::{count, iface, is_own, migration};

/// A direct connection or datagram to a backend from a port that has a translated flow to it: its replies would be
/// translated, so the flow gives way. A call of its own for the sake of its stack.
#[inline(never)]
pub fn to_direct<F: Net>(key: &FlowKey<F::Addr>) -> u32 {
    let Some(Scratch { reverse_key, .. }) = F::scratch() else { return 0 };
    // Field by field, without a copy on the stack.
    reverse_key.dst = key.src;
    (reverse_key.sport, reverse_key.dport) = (key.dport, key.sport);
    (reverse_key.proto, reverse_key._pad) = (key.proto, [0; 3]);
    // A datagram server on the node may answer from any of its addresses: its flows' answers have a key without source.
    if key.proto == Proto::UDP && is_own::<F>(&key.dst) {
        reverse_key.src = F::Addr::default();
    } else {
        reverse_key.src = key.dst;
    }
    forget::<F>();
    // Through the stack such a connection looks like the second flow of a masquerade, whose source must not be replaced.
    if let Some(record) = F::present_flow(key)
        && record.hook != Hook::INGRESS
        && record.direction == Direction::FORWARD
    {
        F::remove_flow(key);
    }
    0
}

/// The answer to a direct connection from such a port, whose SYN no hook of ours has met.
#[inline(never)]
pub fn to_answer<F: Net, M: Medium>(m: &M, key: &FlowKey<F::Addr>) -> u32 {
    let Some(Scratch { reverse_key, .. }) = F::scratch() else { return 0 };
    // In a frame for another machine it is none.
    if iface(m.ifindex()).is_some_and(|i| !m.is_addressed_to(i)) {
        return 0;
    }
    (reverse_key.src, reverse_key.dst) = (key.src, key.dst);
    (reverse_key.sport, reverse_key.dport) = (key.sport, key.dport);
    (reverse_key.proto, reverse_key._pad) = (key.proto, [0; 3]);
    forget::<F>();
    0
}

/// Removes the flow of the scratch space's reverse key.
#[inline(always)]
fn forget<F: Net>() {
    let Some(Scratch { reverse_key, forward_key, .. }) = F::scratch() else { return };
    // By hand and not by `flow`: a call would be one frame more than Linux 6.1 allows below a new flow.
    let is_migrating = migration() != Migration::NONE;
    if is_migrating {
        F::carry_over(reverse_key);
    }
    let Some(record) = F::present_flow(reverse_key) else { return };
    if record.direction == Direction::REVERSE {
        *forward_key = twin_key::<F>(reverse_key.proto, record);
        // The client may have begun another flow there since, to another backend, which is nobody's to cut.
        if is_migrating {
            F::carry_over(forward_key);
        }
        if let Some(forward) = F::present_flow(forward_key)
            && forward.dport == reverse_key.sport
            && (forward.any_source != 0 || forward.dst == reverse_key.src)
        {
            F::remove_flow(forward_key);
        }
        F::remove_flow(reverse_key);
        count(Counter::FlowGaveWay);
    }
}
