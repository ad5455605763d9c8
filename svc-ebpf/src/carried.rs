//! Flows that began in the flow table that is being replaced.

use svc_common::abi::*;
use svc_common::wire::parse::Packet;

use crate::hook::Medium;
use crate::new_flow::Outcome;
use crate::pipeline::{Net, touch, unless_over};
use crate::tables::now;

/// Goes on with such a flow: moves its record into the flow table, and leaves a copy in the scratch space as if the flow
/// had begun. A call below the choice of a backend and not a branch of the established path: the verifier would walk that
/// path twice.
#[inline(never)]
pub fn resume<F: Net, M: Medium>(m: &M, packet: &Packet<F::Addr>) -> u32 {
    let now = now();
    F::carry_over(&packet.key);
    let Some(record) = F::present_flow(&packet.key) else { return Outcome::UNKNOWN };
    let Some(record) = unless_over::<F, M>(m, packet, record, now) else { return Outcome::UNKNOWN };
    if M::BEFORE_STACK && record.way != Way::REDIRECT {
        return Outcome::PASS;
    }
    touch::<F, M>(m, packet, record, now);
    let Some(scratch) = F::scratch() else { return Outcome::PASS };
    // Not an assignment, which goes by the stack.
    // SAFETY: values of two maps do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(record, &mut scratch.record, 1) };
    Outcome::BEGUN
}
