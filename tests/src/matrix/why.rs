//! `svc-ctl why` for the packet of a cell must agree with the result of the real packet.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::cell::{BackendPlace, Cell, Client, Frontend};
use super::source::{Source, expected};
use super::world::MatrixWorld;
use crate::agent::Via;
use crate::manifests::SERVER_PORT;

impl Cell {
    /// Fails unless `why` on node1 names the backend that answered and the source with which the packet leaves svc.
    pub(super) fn why_agrees(&self, world: &MatrixWorld, to: SocketAddr) -> Result<()> {
        let own = self.client_host(world)?.addrs.of(self.family);
        let client = if self.client == Client::Node { "node".to_owned() } else { own.to_string() };
        let proto = if matches!(self.via, Via::Tcp | Via::Http) { "TCP" } else { "UDP" };
        let packet = format!("{client} -> {to}/{proto}");
        let (code, answer) = world.world.why(1, &[&packet])?;
        let backend = SocketAddr::new(world.backend_addrs(self.backend).of(self.family), SERVER_PORT);
        ensure!(
            code == 0 && answer["verdict"] == "forwarded" && answer["backend"] == backend.to_string(),
            "why {packet}: exit {code}, not forwarded to {backend}: {answer:#}"
        );
        self.source_agrees(world, own, &answer).with_context(|| format!("why {packet}: {answer:#}"))
    }

    fn source_agrees(&self, world: &MatrixWorld, own: IpAddr, answer: &Value) -> Result<()> {
        let has_socket_step = |step: &Value| step["step"] == "connect";
        let is_by_socket = answer["steps"].as_array().is_some_and(|steps| steps.iter().any(has_socket_step));
        let dials_cluster_ip = self.client == Client::Pod && self.frontend == Frontend::ClusterIp;
        ensure!(
            is_by_socket
                == (self.client == Client::Node || self.is_left_to_pod_sockets(world) && dials_cluster_ip),
            "sockets and packets are confused"
        );
        // The kernel chooses the source of a socket that is connected to the backend itself.
        if is_by_socket {
            ensure!(answer["source"].is_null(), "a socket has no source yet");
            return Ok(());
        }
        let source: SocketAddr = answer["source"].as_str().context("no source")?.parse()?;
        // The CNI masquerades after svc.
        let is_left_to_cni = expected(self.client, self.backend, self.frontend) == Source::EgressInterface;
        let agreed = if is_left_to_cni { vec![own] } else { self.expected_source(world)? };
        ensure!(agreed.contains(&source.ip()), "the source is none of {agreed:?}");
        Ok(())
    }

    /// Sockets of pods are connected by the cgroup's programs, but for datagrams to the node itself.
    fn is_left_to_pod_sockets(&self, world: &MatrixWorld) -> bool {
        let is_datagram = !matches!(self.via, Via::Tcp | Via::Http);
        world.pod_sockets() && !(is_datagram && self.backend == BackendPlace::HostOfSameNode)
    }
}
