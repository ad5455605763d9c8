//! Commands and results between a test and its agents.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::topology::Family;

/// A client's use of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Via {
    Tcp,
    /// TCP with an HTTP request like curl's.
    Http,
    /// `connect` then `send` and `recv`.
    UdpConnected,
    /// `sendto` and `recvfrom`: the socket has no peer.
    UdpUnconnected,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
            Self::UdpConnected => "UDP connected",
            Self::UdpUnconnected => "UDP unconnected",
        })
    }
}

/// The sockets of requests that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sockets {
    /// One for all requests, connected before the time begins.
    Shared,
    /// One for each request: open, connect, ask, close.
    Fresh,
    /// One for each: open, connect, close. UDP alone, so that nothing is sent.
    Unused,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Command {
    /// Serve TCP and UDP of both families on a port.
    Serve {
        /// Name in the server's replies.
        name: String,
        port: u16,
    },
    /// Serve TCP and UDP on a port of one address.
    ServeAt {
        name: String,
        address: IpAddr,
        port: u16,
    },
    /// `count` small requests, each from a socket of its own.
    Ask {
        via: Via,
        to: SocketAddr,
        count: u32,
    },
    /// The nanoseconds that `count` requests take, one after the other.
    Time {
        via: Via,
        to: SocketAddr,
        count: u32,
        sockets: Sockets,
    },
    /// One datagram of that many octets; the reply is as long.
    AskLong {
        via: Via,
        to: SocketAddr,
        octets: usize,
    },
    /// Two rounds of one request to each address, from sockets that share a source port and all stay open to the end.
    AskFromOnePort {
        via: Via,
        to: Vec<SocketAddr>,
    },
    /// `octets` in each direction, contents compared at both ends.
    Bulk {
        via: Via,
        to: SocketAddr,
        octets: usize,
    },
    /// A request that must fail; returns the error and its time.
    Refused {
        via: Via,
        to: SocketAddr,
    },
    /// Requests that may fail, several probes at once.
    Probe {
        probes: Vec<Probe>,
        ports: SourcePorts,
    },
    /// The local address that the kernel chooses towards `to`.
    SourceTowards {
        to: IpAddr,
    },
    /// Requests in the background, each from a socket of its own, about `per_second`.
    StartLoad {
        via: Via,
        to: SocketAddr,
        per_second: u32,
    },
    /// [`Command::StartLoad`], to an address that a name server is asked for each time.
    StartLoadByName {
        via: Via,
        to: NamedServer,
        per_second: u32,
    },
    /// One connection in the background that sends about `per_second` requests and checks each reply.
    StartStream {
        to: SocketAddr,
        per_second: u32,
    },
    /// One UDP socket in the background, like [`Command::StartStream`]; a late reply counts as missing. With
    /// `redials` the client opens another socket after an error, as resolvers do.
    StartDatagrams {
        via: Via,
        to: SocketAddr,
        per_second: u32,
        limit_ms: u64,
        redials: bool,
    },
    /// Exchanges like [`Command::Bulk`] in the background, one after the other.
    StartBulk {
        via: Via,
        to: SocketAddr,
        octets: usize,
    },
    Look {
        job: usize,
    },
    /// The sum of all jobs.
    LookAround,
    Stop {
        job: usize,
    },
}

/// The server's name, and the client's address as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub server: String,
    pub seen_from: SocketAddr,
}

/// Source ports of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourcePorts {
    /// The kernel chooses.
    Any,
    /// Each request takes the next port of the agent: no request meets the flow of an earlier one.
    Fresh,
}

/// Requests from separate sockets, one after the other, to each address in turn. If the first one fails, the others
/// are sent at once, so that many of them take no longer than two.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    pub via: Via,
    /// The client's address; `None`: the kernel chooses.
    pub from: Option<IpAddr>,
    pub to: Vec<SocketAddr>,
    pub tries: usize,
}

/// A server to dial by its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NamedServer {
    /// The address of the server.
    pub server: SocketAddr,
    /// Ends with a dot.
    pub name: String,
    pub family: Family,
    pub port: u16,
}

/// Result of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tried {
    Answered(Answer),
    /// ECONNREFUSED, from whichever call.
    Refused,
    Unreachable,
    /// No reply in time, or the kernel did not send the request.
    Nothing,
    Odd(String),
}

/// Kind of a refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub errno: i32,
    /// The call that returned the error.
    pub call: String,
    pub elapsed_ms: u64,
}

/// Results of a background job so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub ok: u64,
    pub failed: u64,
    pub by_server: BTreeMap<String, u64>,
    pub first_failure: Option<String>,
    /// Failed requests whose connection was reset.
    pub resets: u64,
    /// The longest time between two answers.
    pub longest_gap: Duration,
    /// The moments at which the first [`MOST_MOMENTS`] failed requests began.
    pub failed_began: Vec<Moment>,
}

/// Failed requests of a job whose moments are kept.
pub(super) const MOST_MOMENTS: usize = 1_000;

/// The time since the machine started, which all its processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(Duration);

impl Moment {
    pub fn now() -> Result<Self> {
        Ok(Self(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into()))
    }

    /// The moment that much earlier.
    #[must_use]
    pub const fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }

    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Report {
    /// The sum of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.ok += other.ok;
        self.failed += other.failed;
        for (name, count) in other.by_server {
            *self.by_server.entry(name).or_default() += count;
        }
        self.first_failure = self.first_failure.or(other.first_failure);
        self.resets += other.resets;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.failed_began.extend(other.failed_began);
        self
    }

    /// The difference to an earlier report of the same job; the gap is that of its whole life.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |name: &String| earlier.by_server.get(name).copied().unwrap_or(0);
        let counts = self.by_server.iter().map(|(name, now)| (name.clone(), now - before(name)));
        Self {
            ok: self.ok - earlier.ok,
            failed: self.failed - earlier.failed,
            by_server: counts.filter(|(_, count)| *count > 0).collect(),
            first_failure: self.first_failure.clone(),
            resets: self.resets - earlier.resets,
            longest_gap: self.longest_gap,
            failed_began: self.failed_began.get(earlier.failed_began.len()..).unwrap_or_default().to_vec(),
        }
    }
}
