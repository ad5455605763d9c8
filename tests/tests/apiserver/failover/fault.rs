//! The failures of the node that has a load-balancer address.

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::testbed::{LINK, Testbed};

/// A failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    DaemonKilled,
    ApiServerAway,
    ApiServerAwayForOwner,
    CarrierLost,
    NodeDead,
    NodeSuspended,
    SegmentCut,
}

impl Fault {
    pub const ALL: [Self; 7] = [
        Self::DaemonKilled,
        Self::ApiServerAway,
        Self::ApiServerAwayForOwner,
        Self::CarrierLost,
        Self::NodeDead,
        Self::NodeSuspended,
        Self::SegmentCut,
    ];

    pub const fn text(self) -> &'static str {
        match self {
            Self::DaemonKilled => "its daemon is killed",
            Self::ApiServerAway => "the API server is away",
            Self::ApiServerAwayForOwner => "the API server is away for it alone",
            Self::CarrierLost => "its link loses carrier",
            Self::NodeDead => "the node dies, and starts again",
            Self::NodeSuspended => "the node is suspended, and wakes up",
            Self::SegmentCut => "the segment is cut between it and the client",
        }
    }

    /// Another node has the address afterwards.
    pub const fn moves(self) -> bool {
        matches!(self, Self::CarrierLost | Self::NodeDead | Self::NodeSuspended | Self::SegmentCut)
    }

    pub fn begin(self, testbed: &Testbed, owner: usize) -> Result<()> {
        let lan = |lines: &str| testbed.on_world(|world| world.topology.lan().ip(lines));
        match self {
            Self::DaemonKilled => testbed.on_world(|world| world.daemon(owner)?.kill()),
            Self::ApiServerAway => testbed.plane().control().freeze_apiserver(true),
            Self::ApiServerAwayForOwner => api_link(testbed, owner, "down"),
            Self::CarrierLost => lan(&format!("link set f-node{owner} down")),
            Self::NodeDead | Self::NodeSuspended => {
                testbed.on_world(|world| {
                    let (node, daemon) = world.on_node(owner)?;
                    if self == Self::NodeDead {
                        daemon.kill()?
                    } else {
                        daemon.signal(Signal::SIGSTOP)?
                    }
                    node.host.netns.ip(&format!("link set {LINK} down"))
                })?;
                lan(&format!("link set f-node{owner} down"))
            }
            Self::SegmentCut => lan(&format!("link set f-node{owner} master half")),
        }
    }

    pub fn end(self, testbed: &Testbed, owner: usize) -> Result<()> {
        let lan = |lines: &str| testbed.on_world(|world| world.topology.lan().ip(lines));
        match self {
            Self::DaemonKilled => testbed.on_world(|world| world.restart(owner)),
            Self::ApiServerAway => testbed.plane().control().freeze_apiserver(false),
            Self::ApiServerAwayForOwner => api_link(testbed, owner, "up"),
            Self::CarrierLost => lan(&format!("link set f-node{owner} up")),
            // A machine that starts has no programs yet.
            Self::NodeDead => testbed.on_world(|world| {
                let (node, daemon) = world.on_node(owner)?;
                daemon.cleanup(node)?;
                node.host.netns.ip(&format!("link set {LINK} up"))?;
                world.topology.lan().ip(&format!("link set f-node{owner} up"))?;
                world.restart(owner)
            }),
            Self::NodeSuspended => {
                lan(&format!("link set f-node{owner} up"))?;
                testbed.on_world(|world| {
                    let (node, daemon) = world.on_node(owner)?;
                    node.host.netns.ip(&format!("link set {LINK} up"))?;
                    daemon.signal(Signal::SIGCONT)
                })
            }
            Self::SegmentCut => lan(&format!("link set f-node{owner} master front")),
        }
    }
}

/// The link of a node to the API server.
fn api_link(testbed: &Testbed, node: usize, state: &str) -> Result<()> {
    testbed.on_world(|world| world.topology.node(node).host.netns.ip(&format!("link set {LINK} {state}")))
}
