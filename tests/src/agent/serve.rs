//! Opens the server's sockets: TCP and UDP of both families on one port, bound to no address in particular.
//!
//! Bound to 0.0.0.0 and ::, as most servers are: the source of a UDP answer is then the route's choice, not
//! the address that was asked.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::FromRawFd;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use super::{tcp_server, udp_server};

pub(super) fn both(name: &str, port: u16) -> Result<()> {
    for at in
        [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]
    {
        let listener = open(at, SockType::Stream)?;
        listen(&listener, Backlog::new(128)?)?;
        // SAFETY: the descriptor is a fresh listening socket that nobody else owns.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        let (tcp_name, udp_name) = (name.to_owned(), name.to_owned());
        thread::spawn(move || tcp_server::run(&tcp_name, &listener));
        // SAFETY: the descriptor is a fresh datagram socket that nobody else owns.
        let datagrams = unsafe { UdpSocket::from_raw_fd(open(at, SockType::Datagram)?.into_raw_fd()) };
        thread::spawn(move || udp_server::run(&udp_name, &datagrams));
    }
    Ok(())
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
