//! The clients of the show: HTTP and UDP, ClusterIP and NodePort, both families, from every kind of place.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::cluster::{CLIENT_POD, Cluster};
use crate::agent::{Job, Report, Via};

/// Requests per second of each client.
const RATE: u32 = 60;

const CLIENTS: [(&str, Via, &str); 7] = [
    (CLIENT_POD, Via::Http, "10.96.0.10:80"),
    (CLIENT_POD, Via::Http, "[fd00:10:96::10]:80"),
    ("node1", Via::Http, "10.96.0.10:80"),
    ("client", Via::Http, "192.0.2.1:30080"),
    ("client", Via::Http, "[2001:db8:1::2]:30080"),
    (CLIENT_POD, Via::UdpConnected, "10.96.0.53:53"),
    ("client", Via::UdpUnconnected, "192.0.2.1:30053"),
];

/// Requests that go on from start to stop.
pub(super) struct Traffic(Vec<Job>);

impl Traffic {
    pub(super) fn start(cluster: &Cluster) -> Result<Self> {
        let start = |(client, via, to): (&str, Via, &str)| {
            let to: SocketAddr = to.parse().with_context(|| format!("{to} is no address"))?;
            cluster.world().topology.host(client)?.agent.start_load(via, to, RATE)
        };
        Ok(Self(CLIENTS.into_iter().map(start).collect::<Result<_>>()?))
    }

    /// All clients together.
    pub(super) fn look(&self) -> Result<Report> {
        self.0.iter().map(Job::look).try_fold(Report::default(), |total, report| Ok(total.and(report?)))
    }

    pub(super) fn stop(self) -> Result<Report> {
        self.0.into_iter().map(Job::stop).try_fold(Report::default(), |total, report| Ok(total.and(report?)))
    }
}
