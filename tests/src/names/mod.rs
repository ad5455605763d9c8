//! Two name servers beside each other: svc's DNS and the real CoreDNS, on the same objects.
//!
//! `objects` are the objects of both, `coredns` and `svc_dns` serve them, `ask` queries one of them, `questions` are the
//! interesting queries of a world, `deviations` says where the two may differ. `random` makes worlds. `load` measures
//! both.

pub mod ask;
pub mod coredns;
pub mod deviations;
pub mod load;
pub mod objects;
pub mod questions;
pub mod random;
pub mod svc_dns;

use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context as _, Result};

/// A port of the loopback address that is free in UDP and TCP.
fn free_address() -> Result<SocketAddr> {
    const ATTEMPTS: usize = 32;
    for _ in 0..ATTEMPTS {
        let address = UdpSocket::bind("127.0.0.1:0").context("a port")?.local_addr()?;
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no port is free by UDP and TCP")
}
