//! Socket load balancing: which frontend a socket believes it talks to.

use super::abi;
use crate::addr::{AddrV4, AddrV6, Port};

/// Key of the socket-reverse table: a socket and the backend it really talks to.
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

abi! {
    SockKey<AddrV4> = 16,
    SockKey<AddrV6> = 28,
    SockValue<AddrV4> = 8,
    SockValue<AddrV6> = 20,
}
