//! The wanted state of a service port, according to its objects. For each endpoint it has the reason why it is in use
//! or not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use svc_common::abi::Locality;

use crate::model::endpoint::{Endpoint, PortEndpoint, Slice, port_endpoints};
use crate::model::name::{IpFamily, ServicePortKey};
use crate::model::world::World;
use crate::plan::claims::PortOf;
use crate::plan::frontends::{Claim, plan_frontends};
use crate::plan::page::{plan_endpoints, policy_of};
use crate::plan::policy::{ClusterList, Eligibility, LocalList};
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
    /// `namespace/name`. Missing if its EndpointSlice names no Pod.
    pub pod: Option<String>,
    /// In the list for policy Cluster; missing if no frontend needs that list.
    pub cluster: Option<Membership>,
    /// In the list for policy Local; likewise.
    pub local: Option<Membership>,
}

/// Whether an endpoint is in a list, and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Membership {
    pub is_in: bool,
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
    let cluster = policy.uses_cluster().then(|| ClusterList::of(&endpoints, &world.node));
    let local = policy.uses_local().then(|| LocalList::of(&endpoints, &world.node));
    let explained = |of: &PortEndpoint<'_>| WantedEndpoint {
        address: of.target().into(),
        node: of.endpoint.node.as_deref().map(str::to_owned),
        pod: pod_of(world.slices_of(&key.service), of.endpoint).map(str::to_owned),
        cluster: cluster.as_ref().map(|list| membership(of.endpoint, list.eligibility(of.endpoint))),
        local: local.as_ref().map(|list| membership(of.endpoint, list.eligibility(of.endpoint))),
    };
    Some(Wanted {
        service: key.to_string(),
        internal_local: service.internal_local,
        external_local: service.external_local,
        source_ranges: of.addresses().source_ranges.iter().map(ToString::to_string).collect(),
        endpoints: endpoints.iter().map(explained).collect(),
    })
}

/// The Pod of an endpoint of these slices.
fn pod_of<'a>(slices: impl IntoIterator<Item = &'a Slice>, endpoint: &Endpoint) -> Option<&'a str> {
    slices.into_iter().find_map(|slice| {
        let index = slice.endpoints.iter().position(|other| std::ptr::eq(other, endpoint))?;
        slice.pods.get(index)
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

fn membership(endpoint: &Endpoint, eligibility: Eligibility) -> Membership {
    let names = |names: Option<&BTreeSet<Arc<str>>>| -> String {
        names.into_iter().flatten().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ")
    };
    let (because, rule) = match eligibility {
        Eligibility::Ready => ("ready".to_owned(), "SEM-060"),
        Eligibility::Fallback => {
            ("terminating and serving, and no endpoint of its list is ready".to_owned(), "SEM-062")
        }
        Eligibility::Elsewhere if endpoint.node.is_none() => {
            ("it names no node, and the traffic policy is Local".to_owned(), "SEM-061")
        }
        Eligibility::Elsewhere => ("on another node, and the traffic policy is Local".to_owned(), "SEM-061"),
        Eligibility::Superseded => ("terminating, while others of its list are ready".to_owned(), "SEM-062"),
        Eligibility::NotServing => ("terminating, and no longer serving".to_owned(), "SEM-064"),
        Eligibility::NotReady => ("not ready".to_owned(), "SEM-064"),
        Eligibility::OtherNodes => {
            (format!("its topology hints are for the nodes {}", names(endpoint.hints.nodes())), "SEM-071")
        }
        Eligibility::OtherZones => {
            (format!("its topology hints are for the zones {}", names(endpoint.hints.zones())), "SEM-072")
        }
    };
    Membership { is_in: eligibility.is_eligible(), because, rule: rule.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::Hints;
    use crate::model::node::NodeInfo;

    fn endpoint(conditions: &str, node: &str, zones: &[&str], nodes: &[&str]) -> Endpoint {
        let has = |condition| conditions.split(' ').any(|word| word == condition);
        Endpoint {
            addr: "10.244.0.1".parse().unwrap(),
            ready: has("ready"),
            serving: has("serving") || has("ready"),
            terminating: has("terminating"),
            node: (!node.is_empty()).then(|| node.into()),
            hints: Hints::new(
                zones.iter().map(|name| (*name).into()),
                nodes.iter().map(|name| (*name).into()),
            ),
        }
    }

    /// The reasons of each endpoint in the list for policy Cluster and in that for policy Local; `+`: it is in.
    fn reasons(endpoints: &[Endpoint]) -> Vec<[String; 2]> {
        let node = NodeInfo { zone: Some("a".into()), ..NodeInfo::named("node1") };
        let ports: Vec<_> = endpoints.iter().map(|endpoint| PortEndpoint { port: 80, endpoint }).collect();
        let (cluster, local) = (ClusterList::of(&ports, &node), LocalList::of(&ports, &node));
        let text = |endpoint, eligibility| {
            let Membership { is_in, because, rule } = membership(endpoint, eligibility);
            format!("{}{because} {rule}", if is_in { "+" } else { "" })
        };
        let of = |endpoint| {
            [text(endpoint, cluster.eligibility(endpoint)), text(endpoint, local.eligibility(endpoint))]
        };
        endpoints.iter().map(of).collect()
    }

    #[test]
    fn each_endpoint_has_one_reason_in_each_list_and_the_policy_goes_first() {
        let elsewhere = "on another node, and the traffic policy is Local SEM-061";
        let fallback = "+terminating and serving, and no endpoint of its list is ready SEM-062";
        let superseded = "terminating, while others of its list are ready SEM-062";
        for (endpoints, expected) in [
            (
                &[endpoint("ready", "node1", &[], &[]), endpoint("ready", "node2", &[], &[])][..],
                &[["+ready SEM-060", "+ready SEM-060"], ["+ready SEM-060", elsewhere]][..],
            ),
            (
                &[
                    endpoint("", "node1", &[], &[]),
                    endpoint("", "node2", &[], &[]),
                    endpoint("", "", &[], &[]),
                ],
                &[
                    ["not ready SEM-064", "not ready SEM-064"],
                    ["not ready SEM-064", elsewhere],
                    ["not ready SEM-064", "it names no node, and the traffic policy is Local SEM-061"],
                ],
            ),
            // The local list falls back, though another node has a ready endpoint.
            (
                &[
                    endpoint("serving terminating", "node1", &[], &[]),
                    endpoint("ready", "node2", &[], &[]),
                    endpoint("terminating", "node1", &[], &[]),
                ],
                &[
                    [superseded, fallback],
                    ["+ready SEM-060", elsewhere],
                    [
                        "terminating, and no longer serving SEM-064",
                        "terminating, and no longer serving SEM-064",
                    ],
                ],
            ),
            // Hints narrow the cluster list alone.
            (
                &[endpoint("ready", "node1", &["b"], &[]), endpoint("ready", "node2", &["a"], &[])],
                &[
                    ["its topology hints are for the zones b SEM-072", "+ready SEM-060"],
                    ["+ready SEM-060", elsewhere],
                ],
            ),
            (
                &[
                    endpoint("ready", "node1", &["a"], &["node2"]),
                    endpoint("ready", "node2", &["b"], &["node1"]),
                ],
                &[
                    ["its topology hints are for the nodes node2 SEM-071", "+ready SEM-060"],
                    ["+ready SEM-060", elsewhere],
                ],
            ),
            // Node hints that do not have this node give way to zone hints.
            (
                &[
                    endpoint("ready", "node1", &["b"], &["node3"]),
                    endpoint("ready", "node2", &["a"], &["node2"]),
                ],
                &[
                    ["its topology hints are for the zones b SEM-072", "+ready SEM-060"],
                    ["+ready SEM-060", elsewhere],
                ],
            ),
            // Hints do not count if one lacks them.
            (
                &[endpoint("ready", "node1", &["b"], &[]), endpoint("ready", "node2", &[], &[])],
                &[["+ready SEM-060", "+ready SEM-060"], ["+ready SEM-060", elsewhere]],
            ),
        ] {
            assert_eq!(reasons(endpoints), expected, "{endpoints:?}");
        }
    }
}
