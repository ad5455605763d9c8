//! The source address that a backend must see.

use std::net::IpAddr;

use anyhow::Result;

use super::cell::{BackendPlace, Cell, Client, Frontend};
use super::world::MatrixWorld;
use crate::topology::Between;

/// Owner of the source address that the backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client.
    Client,
    /// Address of node1's own processes towards the backend: the preferred source of the route.
    NodeTowardsBackend,
    /// Address of node1's interface towards the backend, as MASQUERADE uses it.
    EgressInterface,
    /// Any address of node1.
    AnyOfNode,
}

/// SEM-081 to SEM-087, with the deviations of docs/deviations.md.
pub fn expected(client: Client, backend: BackendPlace, frontend: Frontend) -> Source {
    use BackendPlace::{HostOfOtherNode, HostOfSameNode, Itself, OtherNode, SameNode};
    match (client, backend) {
        // SEM-083 and SEM-087: svc masquerades with the preferred source of the route; replies come back through
        // node1.
        (Client::Pod, OtherNode | HostOfOtherNode) if frontend == Frontend::NodePort => {
            Source::NodeTowardsBackend
        }
        (Client::Outside, OtherNode | HostOfOtherNode) => Source::NodeTowardsBackend,
        // SEM-084: a pod that reaches itself is masqueraded, because it would drop packets from its own address.
        (Client::Pod, Itself) => Source::AnyOfNode,
        // Not masqueraded on the way: the CNI leaves out its own subnet and packets to this node. With a NodePort
        // this deviates from SEM-083 (listed): a local backend sees the client.
        (Client::Pod, SameNode | HostOfSameNode) => Source::Client,
        // The CNI masquerades packets of pods that leave the node (ipMasq), with or without Services.
        (Client::Pod, OtherNode | HostOfOtherNode) => Source::EgressInterface,
        // Translated at connect: the kernel chooses the source for the backend, as without a Service.
        (Client::Node, _) => Source::NodeTowardsBackend,
        // Local backends keep the client's address (listed deviation for pods, SEM-086 for the host network).
        (Client::Outside, SameNode | HostOfSameNode | Itself) => Source::Client,
    }
}

impl Cell {
    /// The rule's addresses, from routes of node1 without any Service.
    pub(super) fn expected_source(&self, world: &MatrixWorld) -> Result<Vec<IpAddr>> {
        let node = world.world.topology.node(1);
        let between = world.world.topology.options.between;
        let backend = world.backend_addrs(self.backend).of(self.family);
        let (towards, egress) = (node.host.agent.source_towards(backend)?, node.egress().of(self.family));
        // Translated at connect, a pod's packets to itself never leave it, so they are not masqueraded.
        let never_leaves = world.pod_sockets()
            && (self.client, self.backend, self.frontend)
                == (Client::Pod, BackendPlace::Itself, Frontend::ClusterIp);
        let rule =
            if never_leaves { Source::Client } else { expected(self.client, self.backend, self.frontend) };
        Ok(match rule {
            Source::Client => vec![self.client_host(world)?.addrs.of(self.family)],
            Source::NodeTowardsBackend => vec![towards],
            // Other rules lead pods to the other node than the node's own processes.
            Source::EgressInterface if between == Between::OwnUplinkBySource => vec![egress],
            // The other node itself is reached by the network card, whatever leads to its pods.
            Source::EgressInterface if self.backend == BackendPlace::HostOfOtherNode => vec![towards],
            Source::EgressInterface => vec![egress],
            Source::AnyOfNode => node.addresses().iter().map(|addrs| addrs.of(self.family)).collect(),
        })
    }
}
