//! Socket load balancing: the frontend that a translated socket dialled.

use super::family_abi;
use crate::addr::Port;

/// Key of the socket-reverse table: a socket and the backend that it is connected to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SockKey<A> {
    /// `bpf_get_socket_cookie`, low word first.
    pub cookie: [u32; 2],
    pub addr: A,
    pub port: Port,
    pub _pad: [u8; 2],
}

/// The frontend that the socket dialled.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SockValue<A> {
    pub addr: A,
    pub port: Port,
    pub _pad: [u8; 2],
}

family_abi! { SockKey = 16, 28; SockValue = 8, 20 }
