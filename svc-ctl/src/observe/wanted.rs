//! The wanted side of a service port: what its objects ask for, and for each endpoint why it is in use or not.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use svc_common::abi::Locality;

use crate::model::endpoint::{Endpoint, PortEndpoint, port_endpoints};
use crate::model::name::{IpFamily, ServicePortKey};
use crate::model::node::NodeInfo;
use crate::model::world::World;
use crate::plan::claims::PortOf;
use crate::plan::frontends::{Claim, plan_frontends};
use crate::plan::page::{plan_endpoints, policy_of};
use crate::plan::policy::{Categories, is_local, plan_categories};
use crate::plan::render::frontend_text;
use crate::plan::targets::Target;

/// A service port in one family, as its objects want it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Wanted {
    /// `namespace/name:port/protocol`.
    pub service: String,
    pub internal_local: bool,
    pub external_local: bool,
    pub source_ranges: Vec<String>,
    pub endpoints: Vec<WantedEndpoint>,
}

/// An endpoint in an EndpointSlice.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WantedEndpoint {
    pub address: SocketAddr,
    pub node: Option<String>,
    /// In the list for policy Cluster.
    pub in_cluster: bool,
    /// In the list for policy Local.
    pub in_local: bool,
    pub because: String,
    /// The rule of docs/semantics.md.
    pub rule: String,
}

/// The wanted side of a service port; `None` if the world has no such port or the Service lacks the family.
pub fn wanted(world: &World, key: &ServicePortKey, family: IpFamily) -> Option<Wanted> {
    let service = world.services.get(&key.service)?;
    let is_it = |of: &PortOf| of.key() == *key && of.addresses().family() == family;
    let of = PortOf::all(service).find(is_it)?;
    let (port, policy) = (of.port(), policy_of(&of));
    let endpoints = port_endpoints(world.slices_of(&key.service), family, &port.name, port.proto);
    let found = plan_categories(&endpoints, policy, &world.node);
    Some(Wanted {
        service: key.to_string(),
        internal_local: service.internal_local,
        external_local: service.external_local,
        source_ranges: of.addresses().source_ranges.iter().map(ToString::to_string).collect(),
        endpoints: endpoints.iter().map(|endpoint| explained(endpoint, &found, &world.node)).collect(),
    })
}

/// A frontend as the objects want it, before any conflict of addresses and any lack of room.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct WantedFrontend {
    /// `namespace/name:port/protocol`.
    pub service: String,
    /// As `svc-ctl get services` spells it.
    pub frontend: String,
    pub backends: Vec<SocketAddr>,
    /// Backends for clients from outside, under `externalTrafficPolicy: Local`.
    pub local_backends: Vec<SocketAddr>,
}

/// Every frontend that the objects want.
pub fn wanted_frontends(world: &World) -> Vec<WantedFrontend> {
    world.services.values().flat_map(PortOf::all).flat_map(|of| frontends_of(world, &of)).collect()
}

fn frontends_of(world: &World, of: &PortOf) -> Vec<WantedFrontend> {
    let endpoints = plan_endpoints(world, of);
    let addresses = |list: &[(Target, Locality)]| -> Vec<SocketAddr> {
        list.iter().map(|(target, _)| SocketAddr::from(*target)).collect()
    };
    let policy = policy_of(of);
    let claims = plan_frontends(of.port(), of.addresses());
    let frontend = |claim: Claim| {
        let (backends, local_backends) = match (claim.external, policy.internal_local, policy.external_local)
        {
            (false, true, _) => (addresses(&endpoints.local), Vec::new()),
            (true, _, true) => (addresses(&endpoints.cluster), addresses(&endpoints.local)),
            _ => (addresses(&endpoints.cluster), Vec::new()),
        };
        let (service, frontend) = (of.key().to_string(), frontend_text(&claim.frontend));
        WantedFrontend { service, frontend, backends, local_backends }
    };
    claims.into_iter().map(frontend).collect()
}

fn explained(port: &PortEndpoint<'_>, found: &Categories<'_>, node: &NodeInfo) -> WantedEndpoint {
    let contains = |list: &[PortEndpoint<'_>]| list.iter().any(|member| member.target() == port.target());
    let (in_cluster, in_local) = (contains(&found.cluster), contains(&found.local));
    let (because, rule) = reason(port.endpoint, in_cluster, in_local, node);
    WantedEndpoint {
        address: port.target().into(),
        node: port.endpoint.node.as_deref().map(str::to_owned),
        in_cluster,
        in_local,
        because,
        rule: rule.to_owned(),
    }
}

fn reason(endpoint: &Endpoint, in_cluster: bool, in_local: bool, node: &NodeInfo) -> (String, &'static str) {
    let Endpoint { ready, serving, terminating, hints, .. } = endpoint;
    let text = |text: &str| text.to_owned();
    match (in_cluster || in_local, ready, serving, terminating) {
        (true, true, ..) => (text("ready"), "SEM-060"),
        (true, ..) => (text("terminating and serving, and no endpoint of its list is ready"), "SEM-062"),
        (false, false, true, true) => (text("terminating, while others of its list are ready"), "SEM-062"),
        (false, false, false, true) => (text("terminating, and no longer serving"), "SEM-064"),
        (false, false, ..) => (text("not ready"), "SEM-064"),
        (false, true, ..)
            if !is_local(endpoint, node) && hints.zones().is_none() && hints.nodes().is_none() =>
        {
            (text("ready, but on another node, and the traffic policy is Local"), "SEM-061")
        }
        (false, true, ..) => {
            let names = hints.zones().or(hints.nodes()).into_iter().flatten();
            let names: Vec<&str> = names.map(AsRef::as_ref).collect();
            let rule = if hints.nodes().is_some() { "SEM-071" } else { "SEM-072" };
            (format!("ready, but its topology hints are for {}", names.join(", ")), rule)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::Hints;

    fn endpoint(ready: bool, serving: bool, terminating: bool, node: &str, zone: Option<&str>) -> Endpoint {
        let addr = "10.244.0.1".parse().unwrap();
        let hints = Hints::new(zone.map(Into::into), []);
        Endpoint { addr, ready, serving, terminating, node: Some(node.into()), hints }
    }

    #[test]
    fn each_endpoint_has_its_reason() {
        let node = NodeInfo::named("node1");
        for (endpoint, is_in, expected) in [
            (endpoint(true, true, false, "node1", None), true, "ready"),
            (endpoint(false, true, true, "node1", None), true, "no endpoint of its list is ready"),
            (endpoint(false, true, true, "node1", None), false, "while others of its list are ready"),
            (endpoint(false, false, true, "node1", None), false, "no longer serving"),
            (endpoint(false, false, false, "node1", None), false, "not ready"),
            (endpoint(true, true, false, "node2", None), false, "the traffic policy is Local"),
            (endpoint(true, true, false, "node2", Some("b")), false, "topology hints are for b"),
        ] {
            let (because, rule) = reason(&endpoint, is_in, false, &node);
            assert!(because.ends_with(expected) && rule.starts_with("SEM-"), "{endpoint:?}: {because}");
        }
    }
}
