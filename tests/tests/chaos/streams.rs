//! The clients: open connections, new ones, and sockets with a sequence of datagrams, from everywhere, in both families.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use svc_tests::agent::{Job, LIMIT, Report, Via};
use svc_tests::manifests::{SERVICE_PORT, Service};
use svc_tests::testbed::{Testbed, until_more_than};
use svc_tests::topology::{Family, service};
use svc_tests::wait;

/// Requests of each client in a second.
const PER_SECOND: u32 = 50;
/// Answers that every client must get between two looks.
const MORE: u64 = 20;
const HEAL_LIMIT: Duration = Duration::from_secs(30);

/// NodePort of the Service whose endpoints never change.
const STEADY_PORT: u16 = 30090;

/// A client.
#[derive(Debug)]
pub struct Stream {
    what: String,
    is_connection: bool,
    job: Job,
    start: Report,
}

/// Adds a Service whose only endpoint is a pod of node2.
pub fn add_steady(testbed: &Testbed) -> Result<()> {
    testbed.world.folder.write_service(&Service {
        name: "steady".into(),
        cluster: service(11),
        node_port: STEADY_PORT,
        external: None,
        affinity: None,
        backends: vec![testbed.world.backend("far")?],
    })
}

/// Starts the clients.
pub fn start(testbed: &Testbed) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    let mut add = |what: String, is_connection, job: Job| {
        streams.push(Stream { what, is_connection, job, start: Report::default() });
    };
    for family in Family::BOTH {
        let node = testbed.world.topology.node(1).host.addrs.of(family);
        let steady: [SocketAddr; 2] =
            [(service(11).of(family), SERVICE_PORT).into(), (node, STEADY_PORT).into()];
        let web = [testbed.cluster_ip(family), testbed.node_port(family)];
        for (client, frontend) in [("pod", 0), ("pod", 1), ("node1", 0), ("client", 1)] {
            let agent = testbed.agent(client)?;
            let (web, steady) = (web[frontend], steady[frontend]);
            add(format!("open connection of {client} to {web}"), true, agent.start_stream(web, PER_SECOND)?);
            let datagrams = agent.start_datagrams_within(LIMIT, Via::UdpConnected, steady, PER_SECOND)?;
            add(format!("socket of {client} to {steady}"), false, datagrams);
            for via in [Via::Tcp, Via::UdpConnected] {
                add(
                    format!("new {via} of {client} to {web}"),
                    false,
                    agent.start_load(via, web, PER_SECOND)?,
                );
            }
        }
    }
    Ok(streams)
}

impl Stream {
    /// TCP repairs losses.
    pub const fn is_connection(&self) -> bool {
        self.is_connection
    }

    /// From now on.
    pub fn begin(&mut self) -> Result<()> {
        self.start = self.job.look()?;
        Ok(())
    }

    /// The report since [`Self::begin`].
    pub fn report(&self) -> Result<Report> {
        Ok(self.job.look()?.since(&self.start))
    }

    /// Waits until it has had more answers and no failure.
    pub fn goes_on(&self) -> Result<()> {
        let now = self.job.look()?;
        self.has_no_failure(&until_more_than(&now, &self.job, MORE)?.since(&now))
    }

    pub fn has_no_failure(&self, report: &Report) -> Result<()> {
        let Report { ok, failed, first_failure, .. } = report;
        ensure!(*failed == 0, "{}: {failed} of {} failed, first {first_failure:?}", self.what, ok + failed);
        Ok(())
    }

    /// Answers so far.
    pub fn answers(&self) -> Result<u64> {
        Ok(self.job.look()?.ok)
    }

    /// Waits until it has had more answers than that.
    pub fn heals(&self, answers: u64) -> Result<()> {
        wait::until_true(&format!("{} is answered again", self.what), HEAL_LIMIT, || {
            Ok(self.answers()? > answers)
        })
    }
}
