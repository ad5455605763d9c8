//! Decides which endpoints a service port may use on this node: traffic policies, topology hints, terminating fallback
//! (SEM-060 to SEM-076). One pure function, tested row by row.

use crate::model::endpoint::{Endpoint, Hints, PortEndpoint};
use crate::model::node::NodeInfo;

/// The facts that decide which lists a service port needs, in one family.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    pub internal_local: bool,
    pub external_local: bool,
    pub externally_accessible: bool,
}

impl Policy {
    /// A port that only outside clients with policy Local and inside clients with policy Local use still needs the
    /// cluster list, for clients of this node that dial an outside address (SEM-060).
    pub const fn uses_cluster(self) -> bool {
        !self.internal_local || self.externally_accessible
    }

    /// An external policy without an external frontend has no meaning (SEM-061).
    pub const fn uses_local(self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible)
    }
}

/// The lists of SEM-060 to SEM-066; a list that no frontend needs is empty.
#[derive(Clone, Debug, Default)]
pub struct Categories<'a> {
    /// For policy Cluster.
    pub cluster: Vec<PortEndpoint<'a>>,
    /// For policy Local.
    pub local: Vec<PortEndpoint<'a>>,
    /// Some endpoint is usable somewhere in the cluster (SEM-065).
    pub usable_anywhere: bool,
}

/// The rule by which hints narrow the cluster list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Topology {
    Everywhere,
    Node,
    Zone,
}

const fn is_fallback(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

/// Categorises the endpoints of a service port.
pub fn plan_categories<'a>(
    endpoints: &[PortEndpoint<'a>],
    policy: Policy,
    node: &NodeInfo,
) -> Categories<'a> {
    let pick = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<PortEndpoint<'a>> {
        endpoints.iter().filter(|e| wanted(e.endpoint)).copied().collect()
    };
    let mut found = Categories::default();
    if policy.uses_cluster() {
        let list = ClusterList::of(endpoints, node);
        found.cluster = pick(&|e| list.eligibility(e).is_eligible());
        found.usable_anywhere = !found.cluster.is_empty();
    }
    if policy.uses_local() {
        found.usable_anywhere |= endpoints.iter().any(|e| e.endpoint.ready || is_fallback(e.endpoint));
        let list = LocalList::of(endpoints, node);
        found.local = pick(&|e| list.eligibility(e).is_eligible());
    }
    found
}

/// Why an endpoint is in a list, or is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Eligibility {
    Ready,
    /// Terminating and serving, and no endpoint of the list is ready (SEM-062).
    Fallback,
    /// On another node, for the local list (SEM-061).
    Elsewhere,
    /// Neither ready nor terminating (SEM-064).
    NotReady,
    /// Terminating, and not serving any more (SEM-064).
    NotServing,
    /// Terminating and serving, but another endpoint of the list is ready (SEM-062).
    Superseded,
    /// Ready, with hints for other nodes (SEM-071).
    OtherNodes,
    /// Ready, with hints for other zones (SEM-072).
    OtherZones,
}

impl Eligibility {
    pub const fn is_eligible(self) -> bool {
        matches!(self, Self::Ready | Self::Fallback)
    }

    /// Of an endpoint that is not ready.
    const fn unready(endpoint: &Endpoint, has_ready: bool) -> Self {
        match (endpoint.serving, endpoint.terminating) {
            (true, true) if has_ready => Self::Superseded,
            (true, true) => Self::Fallback,
            (false, true) => Self::NotServing,
            (_, false) => Self::NotReady,
        }
    }
}

/// Facts on all endpoints that decide which of them are in the list for policy Cluster.
pub struct ClusterList<'n> {
    topology: Topology,
    has_ready: bool,
    node: &'n NodeInfo,
}

impl<'n> ClusterList<'n> {
    pub fn of(endpoints: &[PortEndpoint<'_>], node: &'n NodeInfo) -> Self {
        let topology = topology_of(endpoints, node);
        let has_ready = endpoints.iter().any(|e| e.endpoint.ready && is_hinted(e.endpoint, topology, node));
        Self { topology, has_ready, node }
    }

    pub fn eligibility(&self, endpoint: &Endpoint) -> Eligibility {
        match self.topology {
            _ if !endpoint.ready => Eligibility::unready(endpoint, self.has_ready),
            topology if is_hinted(endpoint, topology, self.node) => Eligibility::Ready,
            Topology::Node => Eligibility::OtherNodes,
            _ => Eligibility::OtherZones,
        }
    }
}

/// The same for policy Local. This list falls back by itself, whatever other nodes have (SEM-062); hints do not apply (SEM-063).
pub struct LocalList<'n> {
    has_ready: bool,
    node: &'n NodeInfo,
}

impl<'n> LocalList<'n> {
    pub fn of(endpoints: &[PortEndpoint<'_>], node: &'n NodeInfo) -> Self {
        let has_ready = endpoints.iter().any(|e| e.endpoint.ready && is_local(e.endpoint, node));
        Self { has_ready, node }
    }

    pub fn eligibility(&self, endpoint: &Endpoint) -> Eligibility {
        if !is_local(endpoint, self.node) {
            return Eligibility::Elsewhere;
        }
        if endpoint.ready { Eligibility::Ready } else { Eligibility::unready(endpoint, self.has_ready) }
    }
}

/// On this node, by the name that Kubernetes gives (SEM-052).
pub fn is_local(endpoint: &Endpoint, node: &NodeInfo) -> bool {
    !node.name.is_empty() && endpoint.node.as_ref() == Some(&node.name)
}

/// Only ready endpoints are asked, and all of them must carry a hint (SEM-070 to SEM-073).
fn topology_of(endpoints: &[PortEndpoint<'_>], node: &NodeInfo) -> Topology {
    let ready = || endpoints.iter().map(|e| e.endpoint).filter(|e| e.ready);
    let are_all_hinted = |topology, has_hints: fn(&Hints) -> bool| {
        ready().all(|e| has_hints(&e.hints)) && ready().any(|e| is_hinted(e, topology, node))
    };
    if are_all_hinted(Topology::Node, |hints| hints.nodes().is_some()) {
        Topology::Node
    } else if are_all_hinted(Topology::Zone, |hints| hints.zones().is_some()) {
        Topology::Zone
    } else {
        Topology::Everywhere
    }
}

fn is_hinted(endpoint: &Endpoint, topology: Topology, node: &NodeInfo) -> bool {
    match topology {
        Topology::Everywhere => true,
        Topology::Node => endpoint.hints.nodes().is_some_and(|nodes| nodes.contains(&node.name)),
        Topology::Zone => {
            endpoint.hints.zones().zip(node.zone.as_ref()).is_some_and(|(zones, own)| zones.contains(own))
        }
    }
}

#[cfg(test)]
mod tests;
