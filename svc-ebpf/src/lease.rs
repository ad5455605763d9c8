//! Whether the socket hooks stand in for programs at the interfaces of pods.

use svc_common::abi::{Lease, PodSockets, is_held};

use crate::maps::{CONFIG, LEASE};
use crate::tables::now;

/// The socket hooks serve the sockets of pods now.
#[inline(always)]
pub fn serves_pod_sockets() -> bool {
    match CONFIG.load().pod_sockets {
        PodSockets::OFF => false,
        PodSockets::WITHOUT_DAEMON => !is_held(read(Lease::Until), now()),
        _ => true,
    }
}

/// A socket of a pod may be connected to a backend directly, so that no flow record has its tuple.
#[inline(always)]
pub fn may_have_pod_sockets() -> bool {
    match CONFIG.load().pod_sockets {
        PodSockets::OFF => false,
        PodSockets::WITHOUT_DAEMON => read(Lease::PodSocketsUsed) != 0,
        _ => true,
    }
}

/// Remembers that a socket of a pod was translated.
#[inline(always)]
pub fn remember_pod_socket() {
    if CONFIG.load().pod_sockets == PodSockets::WITHOUT_DAEMON
        && let Some(used) = LEASE.get_ptr_mut(Lease::PodSocketsUsed as u32)
    {
        // SAFETY: one aligned word, which is only ever set to this value.
        unsafe { used.write_volatile(1) }
    }
}

#[inline(always)]
fn read(entry: Lease) -> u32 {
    LEASE.get(entry as u32).copied().unwrap_or_default()
}
