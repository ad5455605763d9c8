//! The health of the manifests' Pods and nodes, as this node finds out by itself.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::pods::node_name;

mod ask;
pub mod heartbeat;
pub mod observer;
pub mod probe;
mod prober;
mod pulse;
mod readiness;
mod sharing;

/// Namespace and name.
pub type PodKey = (String, String);

/// Reasons against endpoints. By default there is none, and the manifests decide.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Pods one of whose probes is not ready.
    pub unready: BTreeSet<PodKey>,
    /// Nodes that do not answer any more.
    pub down: BTreeSet<String>,
}

impl Health {
    /// There is no reason against the Pod.
    pub fn is_well(&self, pod: &Pod) -> bool {
        let is_down = node_name(pod).is_some_and(|node| self.is_down(node));
        !is_down && (self.unready.is_empty() || !self.unready.contains(&pod_key(pod)))
    }

    pub fn is_down(&self, node: &str) -> bool {
        self.down.contains(node)
    }
}

fn pod_key(pod: &Pod) -> PodKey {
    let meta = &pod.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests;
