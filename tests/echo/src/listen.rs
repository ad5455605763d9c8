//! Opens the server's sockets.
//!
//! The server binds 0.0.0.0 and ::, like most servers. So the source of a UDP reply is chosen by the route and may
//! differ from the address that the client dialled.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};

use crate::{tcp, udp};

/// Serves in the background until the process ends.
pub(crate) fn lines(name: &str, at: SocketAddr) -> Result<()> {
    let listener = open(at, SockType::Stream)?;
    // The system's maximum: a busy machine may keep this thread waiting while hundreds connect.
    listen(&listener, Backlog::MAXCONN)?;
    let name = name.to_owned();
    thread::spawn(move || tcp::run(&name, &TcpListener::from(listener)));
    Ok(())
}

/// Serves in the background until the process ends.
pub(crate) fn datagrams(name: &str, at: SocketAddr) -> Result<()> {
    let socket = open(at, SockType::Datagram)?;
    let name = name.to_owned();
    thread::spawn(move || udp::run(&name, &UdpSocket::from(socket)));
    Ok(())
}

pub(crate) fn unspecified(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]
}

/// A bound socket. The IPv6 socket does not accept IPv4.
fn open(at: SocketAddr, kind: SockType) -> Result<OwnedFd> {
    let family = if at.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, ReuseAddr, &true)?;
    if at.is_ipv6() {
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at)).with_context(|| format!("bind {at}"))?;
    Ok(fd)
}
