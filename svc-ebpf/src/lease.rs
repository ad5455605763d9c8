//! Decides whether the socket hooks serve pods in place of programs at the pods' interfaces.

use svc_common::abi::{Lease, PodSockets, has_programs, is_held};

use crate::entries::IF_ABSENT;
use crate::maps::{CONFIG, LEASE, POD_NETNS};
use crate::tables::now;

/// The socket hooks serve the sockets of the pod with this network namespace now. A pod that has dialled while the
/// daemon ran is left to the programs at its interface, which stay: they know its flows and its session affinity.
#[inline(always)]
pub fn serves_sockets_of(netns: u64) -> bool {
    match CONFIG.load().pod_sockets {
        PodSockets::OFF => false,
        PodSockets::WITHOUT_DAEMON => {
            let now = now();
            // SAFETY: an entry is written once.
            let first = unsafe { POD_NETNS.get(&netns) };
            if is_held(read(Lease::Until), now) {
                if first.is_none() {
                    // Without room the pod is served like one that is made while the daemon does not run.
                    let _ = POD_NETNS.insert(&netns, &now, IF_ABSENT);
                }
                return false;
            }
            !first.is_some_and(|first| has_programs(*first, read(Lease::Renewed)))
        }
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
