//! Session affinity (`sessionAffinity: ClientIP`): which backend a client of a service port stays with.

use super::{BackendId, ServiceId, abi, family_abi};

/// A client of a service port. With session affinity it is one client whichever frontend it dials (SEM-230): either the address
/// that its packets come from, or, for a socket that is translated before it has a source, its network namespace (SEM-237); the
/// other is zero. Without, it is an unconnected datagram socket ([`AffinityKey::of_socket`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AffinityKey<A> {
    pub service: ServiceId,
    /// `bpf_get_netns_cookie`, low word first; never zero for a namespace. Of a socket `bpf_get_socket_cookie`.
    pub netns: [u32; 2],
    pub addr: A,
}

impl<A> AffinityKey<A> {
    /// Set in `service` where the client is a socket. No service has so large a number.
    const SOCKET: u32 = 1 << 31;

    /// An unconnected datagram socket at a frontend's address: its datagrams stay together, as those of one source port do
    /// (SEM-127).
    #[inline(always)]
    pub const fn of_socket(service: ServiceId, cookie: [u32; 2], addr: A) -> Self {
        Self { service: ServiceId(service.0 | Self::SOCKET), netns: cookie, addr }
    }

    #[inline(always)]
    pub const fn is_of_socket(&self) -> bool {
        self.service.0 & Self::SOCKET != 0
    }
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
