//! Session affinity: the backend that a client stays with, asked and told by new flows of services that have it.
//!
//! Both calls are calls of their own for the sake of their callers' stack.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_loop};
use svc_common::abi::{AffinityKey, AffinityValue, BackendId, Extent, FrontendValue, limits};
use svc_common::datapath::affinity::{MOMENT_SHIFT, Search, is_over, stay_until};

use crate::tables::{Tables, selected};

/// What a client without a backend to stay with has; no backend has this id.
pub const NOBODY: u32 = 0;

#[inline(always)]
fn moment() -> u32 {
    // SAFETY: no arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } >> MOMENT_SHIFT) as u32
}

/// The backend of a client whose stay is not over, if it may still be chosen (SEM-231, SEM-233).
#[inline(never)]
pub fn kept<F: Tables>(client: &AffinityKey<F::Addr>, extent: &Extent) -> u32 {
    match F::affinity(client) {
        Some(v) if !is_over(moment(), v.until) => {
            let backend = v.backend;
            if holds(extent, backend) { backend.0 } else { NOBODY }
        }
        _ => NOBODY,
    }
}

#[inline(always)]
fn holds(extent: &Extent, backend: BackendId) -> bool {
    let mut search = Search::new(extent, backend);
    // By the helper and not a loop of ours: the verifier walks its body once, not once per halving.
    // SAFETY: the callback has the helper's signature and gets the search, which outlives the call.
    unsafe { bpf_loop(limits::EXTENT_HALVINGS, halve as *mut c_void, (&raw mut search).cast(), 0) };
    search.is_found(selected)
}

/// One halving; 1 ends the search.
extern "C" fn halve(_: u32, search: *mut c_void) -> i64 {
    // SAFETY: `holds` passes its search and waits.
    let search = unsafe { &mut *search.cast::<Search>() };
    !search.halve(selected) as i64
}

/// A client got a backend: its stay begins anew if this is a new flow (SEM-232) or the backend is another one.
#[inline(never)]
pub fn keep<F: Tables>(client: &AffinityKey<F::Addr>, backend: u32, seconds: u32, is_new: bool) -> u32 {
    let now = moment();
    let value = AffinityValue { backend: BackendId(backend), until: stay_until(now, seconds) };
    match F::affinity(client) {
        Some(known) if !is_new && known.backend == value.backend && !is_over(now, known.until) => {}
        Some(known) => *known = value,
        None => F::insert_affinity(client, &value),
    }
    0
}

/// Seconds of a frontend's affinity. Read anew by whoever asks: what the verifier knows of an earlier answer would make
/// it walk all that lies between twice.
#[inline(always)]
pub fn seconds(frontend: &FrontendValue) -> u32 {
    // SAFETY: a reference is valid to read.
    unsafe { (&raw const frontend.affinity).read_volatile() }
}
