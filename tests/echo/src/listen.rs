//! Opens the server's sockets.
//!
//! Bound to 0.0.0.0 and ::, as most servers are, the source of a UDP answer is the route's choice and not the address
//! that was asked.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};

use crate::{tcp, udp};

/// Answers from now on, in the background, until the process ends.
pub(crate) fn lines(name: &str, at: SocketAddr) -> Result<()> {
    let listener = open(at, SockType::Stream)?;
    listen(&listener, Backlog::new(128)?)?;
    let name = name.to_owned();
    thread::spawn(move || tcp::run(&name, &TcpListener::from(listener)));
    Ok(())
}

/// Answers from now on, in the background, until the process ends.
pub(crate) fn datagrams(name: &str, at: SocketAddr) -> Result<()> {
    let socket = open(at, SockType::Datagram)?;
    let name = name.to_owned();
    thread::spawn(move || udp::run(&name, &UdpSocket::from(socket)));
    Ok(())
}

pub(crate) fn unspecified(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]
}

/// A bound socket; the IPv6 one leaves IPv4 to its sibling.
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
