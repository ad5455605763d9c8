//! Session affinity (`sessionAffinity: ClientIP`): which backend a client of a service port stays with.

use super::{BackendId, ServiceId, abi, family_abi};

/// A client of a service port, whichever of its frontends it dials (SEM-230). Either the address that its packets come
/// from, or, for a socket that is translated before it has a source, its network namespace (SEM-237); the other is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AffinityKey<A> {
    pub service: ServiceId,
    /// `bpf_get_netns_cookie`, low word first; never zero for a namespace.
    pub netns: [u32; 2],
    pub addr: A,
}

/// The backend it was given last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AffinityValue {
    pub backend: BackendId,
    /// End of its stay, in units of 2^26 ns of the coarse monotonic clock.
    pub until: u32,
}

family_abi! { AffinityKey = 16, 28 }
abi! { AffinityValue = 8 }
