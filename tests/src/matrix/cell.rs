//! One combination: its name, whether it makes sense, and its traffic.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::world::MatrixWorld;
use crate::agent::{Answer, Via};
use crate::manifests::SERVICE_PORT;
use crate::topology::{Family, Host};

/// Small requests per cell.
const REQUESTS: u32 = 20;
/// Octets each way per cell.
const BULK: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frontend {
    ClusterIp,
    NodePort,
}

/// The client. Pod and node are on node1; outside uses node1's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    Pod,
    Node,
    Outside,
}

/// Location of the only backend, seen from node1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendPlace {
    SameNode,
    OtherNode,
    HostOfSameNode,
    HostOfOtherNode,
    Itself,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub client: Client,
    pub backend: BackendPlace,
    pub frontend: Frontend,
    pub via: Via,
    pub family: Family,
}

impl BackendPlace {
    pub const ALL: [Self; 5] =
        [Self::SameNode, Self::OtherNode, Self::HostOfSameNode, Self::HostOfOtherNode, Self::Itself];
}

impl Cell {
    /// Every combination, including those that make no sense.
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for client in [Client::Pod, Client::Node, Client::Outside] {
            for backend in BackendPlace::ALL {
                for frontend in [Frontend::ClusterIp, Frontend::NodePort] {
                    for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                        cells.extend(Family::BOTH.map(|family| Self {
                            client,
                            backend,
                            frontend,
                            via,
                            family,
                        }));
                    }
                }
            }
        }
        cells
    }

    /// Every combination that makes sense.
    pub fn all_meaningful() -> Vec<Self> {
        Self::all().into_iter().filter(|cell| cell.meaningless().is_none()).collect()
    }

    /// Why the combination makes no sense, if so.
    pub fn meaningless(&self) -> Option<&'static str> {
        match (self.client, self.backend) {
            (Client::Node, BackendPlace::Itself) => {
                Some("a node itself is the host network of the same node")
            }
            (Client::Outside, BackendPlace::Itself) => Some("a client outside the cluster is no backend"),
            _ => None,
        }
    }

    /// The rule of Service semantics that the combination tests.
    pub fn rule(&self) -> &'static str {
        use BackendPlace::{HostOfSameNode, Itself};
        match (self.client, self.backend, self.frontend) {
            (Client::Pod, Itself, _) => "SEM-100",
            (Client::Pod | Client::Node, HostOfSameNode, Frontend::ClusterIp) => "SEM-101",
            (Client::Pod, _, Frontend::ClusterIp) => "SEM-081",
            (Client::Pod, _, Frontend::NodePort) => "SEM-104",
            (Client::Node, _, Frontend::ClusterIp) => "SEM-102",
            (Client::Node, _, Frontend::NodePort) => "SEM-103",
            (Client::Outside, _, Frontend::ClusterIp) => "SEM-106",
            (Client::Outside, HostOfSameNode, Frontend::NodePort) => "SEM-086",
            (Client::Outside, _, Frontend::NodePort) => "SEM-083",
        }
    }

    /// Sends 20 small requests and 1 MiB in each direction; checks who answered, the source that the backend saw, and that
    /// `svc-ctl why` says the same.
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

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, backend, frontend, via, family } = self;
        write!(f, "{client} to {backend} by {frontend} {via} {family}")
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
        })
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::Node => "node",
            Self::Outside => "outside",
        })
    }
}

impl fmt::Display for BackendPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameNode => "same node",
            Self::OtherNode => "other node",
            Self::HostOfSameNode => "host of same node",
            Self::HostOfOtherNode => "host of other node",
            Self::Itself => "itself",
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
