//! Requests that may fail, each from a socket of its own. Reports the server that answered, or the failure.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Error, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::address::unspecified;
use super::protocol::{Answer, Probe, SourcePorts, Tried, Via};
use super::request::{self, Datagrams};

/// An ICMP error during `connect` is reported only at the second SYN, a second later.
const CONNECT_LIMIT: Duration = Duration::from_millis(1900);
/// Timeout for a datagram's reply. A datagram is never repeated, so a long timeout hides no loss, and a busy machine is slow.
const DATAGRAM_LIMIT: Duration = Duration::from_secs(2);
/// The default range of Linux for source ports that it chooses.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
/// Number of concurrent probes. Most of them only wait.
const WORKERS: usize = 24;

/// The results in the order of the probes.
pub(super) fn all(probes: &[Probe], ports: SourcePorts) -> Result<Vec<Vec<Tried>>> {
    let queue = Mutex::new(probes.iter().enumerate());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let work = || std::iter::from_fn(next).map(|(n, probe)| (n, one(probe, ports))).collect::<Vec<_>>();
    let mut results = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS.min(probes.len())).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
    })
    .map_err(|_| anyhow!("a probe panicked"))?
    .concat();
    results.sort_by_key(|(n, _)| *n);
    Ok(results.into_iter().map(|(_, tried)| tried).collect())
}

/// One after the other while they are answered, so that the session affinity from the first request applies to the
/// next. After a first failure there is no affinity, and the others only wait: they wait together.
fn one(probe: &Probe, ports: SourcePorts) -> Vec<Tried> {
    let request = |to: &SocketAddr| {
        let from = probe.from.unwrap_or_else(|| unspecified(to.ip()).ip());
        request(probe.via, from, ports, *to).map_or_else(|error| failure(&error), Tried::Answered)
    };
    let mut all = probe.to.iter().cycle().take(probe.tries);
    let Some(first) = all.next().map(request) else { return Vec::new() };
    if matches!(first, Tried::Answered(_)) {
        return [first].into_iter().chain(all.map(request)).collect();
    }
    let others = thread::scope(|scope| {
        let threads: Vec<_> = all.map(|to| scope.spawn(|| request(to))).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|tried| tried.unwrap_or_else(|_| Tried::Odd("a request panicked".to_owned()))).collect()
    });
    [vec![first], others].concat()
}

/// Requests until a port is free for one.
fn request(via: Via, from: IpAddr, ports: SourcePorts, to: SocketAddr) -> Result<Answer> {
    loop {
        let port = if ports == SourcePorts::Fresh { next_port() } else { 0 };
        let answer = request_from((from, port).into(), via, to);
        let is_taken = answer.as_ref().is_err_and(|error| errno(error) == Some(Errno::EADDRINUSE));
        if !is_taken || ports == SourcePorts::Any {
            return answer;
        }
    }
}

/// The next source port of this agent, which comes again only after all others.
fn next_port() -> u16 {
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let place = u16::try_from(number % EPHEMERAL.len()).unwrap_or_default();
    EPHEMERAL.start() + place
}

fn request_from(from: SocketAddr, via: Via, to: SocketAddr) -> Result<Answer> {
    match via {
        Via::Tcp => request::ask(&mut connect_from(from, to)?, to, "who"),
        Via::Http => request::get(&mut connect_from(from, to)?, to),
        Via::UdpConnected | Via::UdpUnconnected => {
            let socket = Datagrams::open_from(from, via, to)?;
            socket.set_limit(DATAGRAM_LIMIT)?;
            socket.ask_once().map_err(|error| match errno(&error) {
                // The node's own firewall dropped the datagram. If it rejected it, the next call returns the error.
                Some(Errno::EPERM) => socket.receive(&mut [0; 64]).err().unwrap_or(error),
                _ => error,
            })
        }
    }
}

fn connect_from(from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    let family = if to.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The send timeout limits `connect`, too.
    setsockopt(&fd, SendTimeout, &TimeVal::new(CONNECT_LIMIT.as_secs().cast_signed(), 900_000))?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).map_err(io::Error::from)?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).map_err(io::Error::from)?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(request::ANSWER_LIMIT))?;
    let peer = stream.peer_addr()?;
    ensure!(peer == to, "getpeername says {peer}, dialled {to}");
    Ok(stream)
}

fn errno(error: &Error) -> Option<Errno> {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>())?;
    let timed_out = matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    if timed_out { Some(Errno::ETIMEDOUT) } else { cause.raw_os_error().map(Errno::from_raw) }
}

fn failure(error: &Error) -> Tried {
    match errno(error) {
        Some(Errno::ECONNREFUSED) => Tried::Refused,
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH) => Tried::Unreachable,
        // Errors of `connect` at its timeout, and of `send` for a datagram that is not sent.
        Some(Errno::ETIMEDOUT | Errno::EINPROGRESS | Errno::EPERM) => Tried::Nothing,
        _ => Tried::Odd(format!("{error:#}")),
    }
}
