//! Sockets of the node that are open while a row's packets are processed.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use super::wire::{Case, L4, endpoint};

/// A socket of the case's transport, at this address of the node.
#[derive(Clone, Copy, Debug)]
pub struct NodeSocket {
    pub own: &'static str,
    /// The peer; with TCP, a connection under way. Without a peer it accepts connections or any datagram.
    pub peer: Option<&'static str>,
}

impl NodeSocket {
    pub fn open(&self, case: Case) -> Result<Socket> {
        let own = SocketAddr::from(endpoint(self.own, case));
        let is_tcp = case.l4 == L4::Tcp;
        let kind = if is_tcp { Type::STREAM } else { Type::DGRAM };
        let socket = Socket::new(Domain::for_address(own), kind, None)?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&own.into()).with_context(|| format!("bind {own}"))?;
        match self.peer {
            Some(peer) => match socket.connect(&SocketAddr::from(endpoint(peer, case)).into()) {
                Err(err) if err.raw_os_error() != Some(libc::EINPROGRESS) => return Err(err.into()),
                _ => {}
            },
            None if is_tcp => socket.listen(1)?,
            None => {}
        }
        Ok(socket)
    }
}
