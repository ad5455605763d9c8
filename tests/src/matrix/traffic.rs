//! The traffic of one combination.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::cell::{Cell, Client, Frontend};
use super::world::MatrixWorld;
use crate::agent::Answer;
use crate::manifests::SERVICE_PORT;
use crate::topology::Host;

/// Small requests per cell.
const REQUESTS: u32 = 20;
/// Octets each way per cell.
const BULK: usize = 1 << 20;

impl Cell {
    /// Sends 20 small requests and 1 MiB in each direction; checks the server that answered, the source that it saw,
    /// and that `svc-ctl why` agrees.
    pub fn run(&self, world: &MatrixWorld) -> Result<()> {
        let to = self.dialled(world);
        let client = self.client_host(world)?;
        let wanted = (world.backend_name(self.backend), self.expected_source(world)?);
        let answers = client.agent.ask(self.via, to, REQUESTS).with_context(|| format!("dial {to}"))?;
        for (n, Answer { server, seen_from }) in answers.iter().enumerate() {
            ensure!(
                *server == wanted.0 && wanted.1.contains(&seen_from.ip()),
                "request {}: expected {} to see one of {:?}; {server} saw {}",
                n + 1,
                wanted.0,
                wanted.1,
                seen_from.ip()
            );
        }
        self.why_agrees(world, to)?;
        client.agent.bulk(self.via, to, BULK).with_context(|| format!("1 MiB each way by {to}"))
    }

    fn dialled(&self, world: &MatrixWorld) -> SocketAddr {
        let service = world.service(self.backend);
        match self.frontend {
            Frontend::ClusterIp => (service.cluster.of(self.family), SERVICE_PORT).into(),
            Frontend::NodePort => {
                let node = &world.world.topology.node(1).host;
                (node.addrs.of(self.family), service.node_port).into()
            }
        }
    }

    pub(super) fn client_host<'a>(&self, world: &'a MatrixWorld) -> Result<&'a Host> {
        world.world.topology.host(match self.client {
            Client::Pod => "pod",
            Client::Node => "node1",
            Client::Outside => "client",
        })
    }
}
