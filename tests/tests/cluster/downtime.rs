//! Time without a daemon on a node, and the node's traffic in that time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use svc_tests::agent::Report;
use svc_tests::netns::Netns;
use svc_tests::wait;

use crate::load::NodeTraffic;

/// The daemon's health port.
const HEALTH_PORT: u16 = 10256;
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Maximum time for each half of a daemon's replacement.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Downtime {
    pub node: String,
    /// Since the beginning.
    pub down: Duration,
    pub up: Duration,
    pub inside: Report,
}

/// State of the daemon according to the node's health port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    /// No listener.
    Gone,
    /// Running, but not everything is in force.
    Starting,
    Ready,
}

/// Waits until the daemon is gone and then until one is ready. Counts only replies between two checks that found no
/// ready daemon, so the count is rather too low.
pub fn watch(traffic: &NodeTraffic, client: &Netns, began: Instant) -> Result<Downtime> {
    let health = SocketAddr::new(traffic.address, HEALTH_PORT);
    wait::until_true(&format!("the daemon of {} is gone", traffic.node), LIMIT, || {
        Ok(client.within(|| look(health))? == Daemon::Gone)
    })?;
    let down = began.elapsed();
    let before = traffic.look()?;
    let mut last = before.clone();
    wait::until_true(&format!("a daemon of {} is ready", traffic.node), LIMIT, || {
        let seen = traffic.look()?;
        let is_ready = client.within(|| look(health))? == Daemon::Ready;
        if !is_ready {
            last = seen;
        }
        Ok(is_ready)
    })?;
    Ok(Downtime { node: traffic.node.clone(), down, up: began.elapsed(), inside: last.since(&before) })
}

fn look(health: SocketAddr) -> Result<Daemon> {
    match TcpStream::connect_timeout(&health, ANSWER_LIMIT) {
        Ok(stream) => Ok(ask(stream).unwrap_or(Daemon::Starting)),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Daemon::Gone),
        Err(error) => Err(error).with_context(|| format!("connect {health}")),
    }
}

fn ask(mut stream: TcpStream) -> Result<Daemon> {
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(if answer.starts_with("HTTP/1.1 200 ") { Daemon::Ready } else { Daemon::Starting })
}
