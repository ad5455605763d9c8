//! The source address that a backend must see: one pure rule per kind of way.

use std::net::IpAddr;

use anyhow::Result;

use super::cell::{BackendPlace, Cell, Client, Frontend};
use super::world::MatrixWorld;

/// Whose address the backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's own.
    Client,
    /// The one node1's own processes have towards the backend: the preferred source of the route.
    NodeTowardsBackend,
    /// The one of node1's interface towards the other node, which is what MASQUERADE takes.
    EgressInterface,
    /// Any address of node1.
    AnyOfNode,
}

/// SEM-081 to SEM-087, with the deviations of docs/deviations.md.
pub fn expected(client: Client, backend: BackendPlace, frontend: Frontend) -> Source {
    use BackendPlace::{HostOfOtherNode, HostOfSameNode, Itself, OtherNode, SameNode};
    match (client, backend) {
        // SEM-083 and SEM-087: masqueraded by svc with the preferred source of the route; replies come back through node1.
        (Client::Pod, OtherNode | HostOfOtherNode) if frontend == Frontend::NodePort => {
            Source::NodeTowardsBackend
        }
        (Client::Outside, OtherNode | HostOfOtherNode) => Source::NodeTowardsBackend,
        // SEM-084: a pod that reaches itself is masqueraded, else it would see its own address as a stranger's.
        (Client::Pod, Itself) => Source::AnyOfNode,
        // Nothing on the way masquerades: the CNI spares its own subnet and what ends in the node.
        // By NodePort this is a listed deviation from SEM-083: a local backend sees the client.
        (Client::Pod, SameNode | HostOfSameNode) => Source::Client,
        // The CNI masquerades what pods send out of the node (ipMasq), Services or not.
        (Client::Pod, OtherNode | HostOfOtherNode) => Source::EgressInterface,
        // Connect-time translation: the kernel chooses the source for the backend, as without a Service.
        (Client::Node, _) => Source::NodeTowardsBackend,
        // Local backends keep the client's address (listed deviation for pods, SEM-086 for the host network).
        (Client::Outside, SameNode | HostOfSameNode | Itself) => Source::Client,
    }
}

impl Cell {
    /// The rule, resolved to addresses by asking the kernel of node1 without any Service.
    pub(super) fn expected_source(&self, world: &MatrixWorld) -> Result<Vec<IpAddr>> {
        let node = world.world.topology.node(1);
        let backend = world.backend_addrs(self.backend).of(self.family);
        let (towards, egress) = (node.host.agent.source_towards(backend)?, node.egress().of(self.family));
        // Translated at connect, a pod that reaches itself never leaves itself: there is nothing to masquerade.
        let never_leaves = world.pod_sockets()
            && (self.client, self.backend, self.frontend)
                == (Client::Pod, BackendPlace::Itself, Frontend::ClusterIp);
        let rule =
            if never_leaves { Source::Client } else { expected(self.client, self.backend, self.frontend) };
        Ok(match rule {
            Source::Client => vec![self.client_host(world)?.addrs.of(self.family)],
            Source::NodeTowardsBackend => vec![towards],
            Source::EgressInterface => vec![egress],
            Source::AnyOfNode => node.addresses().iter().map(|addrs| addrs.of(self.family)).collect(),
        })
    }
}
