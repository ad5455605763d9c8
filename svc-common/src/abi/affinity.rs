//! Session affinity (`sessionAffinity: ClientIP`): the backend that a client of a service port keeps.

use super::{BackendId, ServicePortId, abi, family_abi};

/// A client of a service port. With session affinity a client is the same at every frontend of the service port
/// (SEM-230). It is known by the source address of its packets or, if its socket is translated before it has a source
/// address, by its network namespace (SEM-237); the other field is zero. Without session affinity the client is an
/// unconnected datagram socket ([`AffinityKey::of_socket`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AffinityKey<A> {
    pub service: ServicePortId,
    /// `bpf_get_netns_cookie`, low word first; never zero for a namespace. For a socket: `bpf_get_socket_cookie`.
    pub netns: [u32; 2],
    pub addr: A,
}

impl<A> AffinityKey<A> {
    /// Set in `service` if the client is a socket. No service port has an id this large.
    const SOCKET: u32 = 1 << 31;

    /// An unconnected datagram socket at a frontend's address. All its datagrams go to one backend, like datagrams of
    /// one source port (SEM-127).
    #[inline(always)]
    pub const fn of_socket(service: ServicePortId, cookie: [u32; 2], addr: A) -> Self {
        Self { service: ServicePortId(service.0 | Self::SOCKET), netns: cookie, addr }
    }

    #[inline(always)]
    pub const fn is_of_socket(&self) -> bool {
        self.service.0 & Self::SOCKET != 0
    }
}

/// The backend that the client was given last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AffinityValue {
    pub backend: BackendId,
    /// When the entry expires, in units of 2^26 ns of the coarse monotonic clock.
    pub until: u32,
}

family_abi! { AffinityKey = 16, 28 }
abi! { AffinityValue = 8 }
