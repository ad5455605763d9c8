//! Flows in a flow table that is being replaced.

use svc_common::abi::*;
use svc_common::wire::parse::Packet;

use crate::hook::PacketAccess;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::record::{touch, unexpired};
use crate::tables::now;

/// Moves such a flow's record into the new flow table, and leaves a copy in the scratch space as if the flow had just
/// begun. A call below the choice of a backend instead of a branch of the established path, which the verifier would
/// walk twice.
#[inline(never)]
pub fn resume<F: Net, M: PacketAccess>(m: &M, packet: &Packet<F::Addr>) -> u32 {
    let now = now();
    F::carry_over(&packet.key);
    let Some(record) = F::present_flow(&packet.key) else { return Outcome::UNKNOWN };
    let Some(record) = unexpired::<F, M>(m, packet, record, now) else { return Outcome::UNKNOWN };
    if M::BEFORE_STACK && record.exit != Exit::REDIRECT {
        return Outcome::PASS;
    }
    touch::<F, M>(m, packet, record, now);
    let Some(scratch) = F::scratch() else { return Outcome::PASS };
    // Copied without the stack, unlike an assignment.
    // SAFETY: values of two maps do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(record, &mut scratch.record, 1) };
    Outcome::BEGUN
}
