//! Global functions: the verifier walks each of them once per program, for every state of its callers. Scalars go in, a
//! scalar comes out, and all else is in the scratch space.
//!
//! Symbols cannot be generic: what depends on the address family has a function for each.

use svc_common::family::{V4, V6};
use svc_common::wire::crc32c;

use crate::net::Global;
use crate::source_port;

/// The change of the checksum of an SCTP packet of `length` octets whose ports change by these bits, as they lie in the
/// packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sctp_delta(flipped: u32, length: u32) -> u32 {
    crc32c::delta(flipped, length)
}

impl Global for V4 {
    #[inline(always)]
    fn claim(takes_port: u32, now: u32) -> u32 {
        claim4(takes_port, now)
    }
}

impl Global for V6 {
    #[inline(always)]
    fn claim(takes_port: u32, now: u32) -> u32 {
        claim6(takes_port, now)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn claim4(takes_port: u32, now: u32) -> u32 {
    source_port::claim::<V4>(takes_port != 0, now) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn claim6(takes_port: u32, now: u32) -> u32 {
    source_port::claim::<V6>(takes_port != 0, now) as u32
}
