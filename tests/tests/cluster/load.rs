//! Traffic to the Service from everywhere, in both families and protocols: new and long connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use svc_tests::agent::{Agent, Job, LIMIT, Report, Via};
use svc_tests::cluster::Pod;
use svc_tests::cluster::addresses::{self, Addrs};

use crate::testbed::{NODE_PORT, PORT, Testbed};

/// Rates for each of the [`COMBINATIONS`].
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Connections or sockets per second with one request.
    pub new: u32,
    /// Long connections or sockets.
    pub streams: u32,
    /// Requests per second of each of those.
    pub asks: u32,
}

/// Combinations of client, frontend, protocol, family and node: from pod and node by ClusterIP and NodePort, from
/// outside by NodePort.
pub const COMBINATIONS: u32 = (2 * 2 + 1) * 2 * 2 * 2;

/// Runs until dropped.
#[derive(Debug)]
pub struct Load {
    /// In the order of the nodes.
    by_node: Vec<NodeTraffic>,
}

/// All traffic that enters the cluster's network at one node.
#[derive(Debug)]
pub struct NodeTraffic {
    pub node: String,
    pub address: IpAddr,
    agents: Vec<Arc<Agent>>,
    new: Vec<Job>,
    streams: Vec<Job>,
}

impl Load {
    /// Returns when every combination has got a reply.
    pub fn start(testbed: &Testbed, rates: Rates) -> Result<Self> {
        let by_node = testbed
            .clients
            .iter()
            .zip(1..)
            .map(|(pod, index)| NodeTraffic::start(testbed, pod, index, rates));
        Ok(Self { by_node: by_node.collect::<Result<_>>()? })
    }

    pub fn by_node(&self) -> &[NodeTraffic] {
        &self.by_node
    }

    pub fn look(&self) -> Result<Report> {
        self.sum(NodeTraffic::look)
    }

    /// Only new connections.
    pub fn look_new(&self) -> Result<Report> {
        self.sum(|traffic| look_at(&traffic.new))
    }

    pub fn look_streams(&self) -> Result<Report> {
        self.sum(|traffic| look_at(&traffic.streams))
    }

    /// Fails if any request got no reply, and names all clients that missed one.
    pub fn check(&self) -> Result<Report> {
        let mut misses = Vec::new();
        for (traffic, agent) in
            self.by_node.iter().flat_map(|traffic| traffic.agents.iter().map(move |agent| (traffic, agent)))
        {
            let Report { ok, failed, first_failure, failed_began, .. } = agent.look_around()?;
            if failed > 0 {
                let (name, node, error) = (agent.name(), &traffic.node, first_failure.unwrap_or_default());
                let total = ok + failed;
                misses.push(format!("{failed} of {total} of {name} by {node} at {failed_began:?}: {error}"));
            }
        }
        ensure!(misses.is_empty(), "requests without a reply:\n{}", misses.join("\n"));
        self.look()
    }

    fn sum(&self, look: impl Fn(&NodeTraffic) -> Result<Report>) -> Result<Report> {
        self.by_node.iter().try_fold(Report::default(), |sum, traffic| Ok(sum.and(look(traffic)?)))
    }
}

impl NodeTraffic {
    fn start(testbed: &Testbed, pod: &Pod, index: u8, rates: Rates) -> Result<Self> {
        let places = &testbed.places;
        let Addrs { v4, v6 } = addresses::node(index);
        let node_ports = at(&[v4.into(), v6.into()], NODE_PORT);
        let inside = [at(&testbed.cluster_ips, PORT), node_ports.clone()].concat();
        let (agents, new, streams) = (Vec::new(), Vec::new(), Vec::new());
        let mut traffic = Self { node: pod.node.clone(), address: v4.into(), agents, new, streams };
        traffic.ask(places.in_pod(pod)?, &inside, rates)?;
        traffic.ask(places.on_node(&pod.node)?, &inside, rates)?;
        traffic.ask(places.outside()?, &node_ports, rates)?;
        Ok(traffic)
    }

    fn ask(&mut self, agent: Agent, frontends: &[SocketAddr], rates: Rates) -> Result<()> {
        let agent = Arc::new(agent);
        for (to, via) in frontends.iter().flat_map(|to| [(*to, Via::Tcp), (*to, Via::UdpConnected)]) {
            agent.ask(via, to, 1).with_context(|| format!("through {}", self.node))?;
            if rates.new > 0 {
                self.new.push(agent.start_load(via, to, rates.new)?);
            }
            for number in 0..rates.streams {
                self.streams.push(match via {
                    Via::Tcp | Via::Http => agent.start_stream(to, rates.asks)?,
                    Via::UdpConnected | Via::UdpUnconnected => {
                        let via = if number % 2 == 0 { via } else { Via::UdpUnconnected };
                        agent.start_datagrams_within(LIMIT, via, to, rates.asks)?
                    }
                });
            }
        }
        self.agents.push(agent);
        Ok(())
    }

    pub fn look(&self) -> Result<Report> {
        self.agents.iter().try_fold(Report::default(), |sum, agent| Ok(sum.and(agent.look_around()?)))
    }
}

fn look_at(jobs: &[Job]) -> Result<Report> {
    jobs.iter().try_fold(Report::default(), |sum, job| Ok(sum.and(job.look()?)))
}

fn at(ips: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}

/// The servers in a report; they have the pods' names.
pub fn servers(report: &Report) -> BTreeSet<&str> {
    report.by_server.keys().map(String::as_str).collect()
}
