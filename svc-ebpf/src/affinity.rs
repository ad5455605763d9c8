//! Session affinity: looks up and stores the backend of a client. Only new flows of services with session affinity
//! call this.
//!
//! Both are real calls (not inlined), because their callers have no stack left.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use svc_common::abi::{AffinityKey, AffinityValue, BackendId, Extent, FrontendValue, limits};
use svc_common::datapath::affinity::{AFFINITY_SHIFT, Search, expires_at, is_over};

use crate::extent::{NO_BACKEND, selected};
use crate::tables::Tables;

#[inline(always)]
fn now() -> u32 {
    // SAFETY: no arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } >> AFFINITY_SHIFT) as u32
}

/// The backend of an unexpired entry, if that backend may still be selected (SEM-231, SEM-233).
#[inline(never)]
pub fn sticky_backend<F: Tables>(client: &AffinityKey<F::Addr>, extent: &Extent) -> u32 {
    match F::affinity(client) {
        Some(v) if !is_over(now(), v.until) => {
            let backend = v.backend;
            if holds(extent, backend) { backend.0 } else { NO_BACKEND }
        }
        _ => NO_BACKEND,
    }
}

#[inline(always)]
fn holds(extent: &Extent, backend: BackendId) -> bool {
    let mut search = Search::new(extent, backend);
    // The verifier walks the loop once per halving and per path to it, so `choose` is a call of its own.
    for _ in 0..limits::EXTENT_HALVINGS {
        if !search.halve(selected) {
            break;
        }
    }
    search.is_found(selected)
}

/// Stores the client's backend. The timeout starts again for a new flow (SEM-232) or another backend.
#[inline(never)]
pub fn remember_backend<F: Tables>(
    client: &AffinityKey<F::Addr>,
    backend: u32,
    seconds: u32,
    is_new: bool,
) -> u32 {
    let now = now();
    let value = AffinityValue { backend: BackendId(backend), until: expires_at(now, seconds) };
    match F::affinity(client) {
        Some(known) if !is_new && known.backend == value.backend && !is_over(now, known.until) => {}
        Some(known) => *known = value,
        None => F::insert_affinity(client, &value),
    }
    0
}

/// Timeout of a frontend's session affinity, in seconds. Read again by each caller: if the verifier knew the value
/// from an earlier read, it would walk the code in between twice.
#[inline(always)]
pub fn seconds(frontend: &FrontendValue) -> u32 {
    // SAFETY: a reference is valid to read.
    unsafe { (&raw const frontend.affinity).read_volatile() }
}
