//! One combination: its name, and whether it makes sense.

use std::fmt;

use crate::agent::Via;
use crate::topology::Family;

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
