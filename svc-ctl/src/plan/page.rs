//! Plans the endpoints of a service port: its endpoints by category, as targets. Pure, without ids.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use svc_common::abi::Locality;

use super::claims::PortOf;
use super::policy::{Policy, is_local, plan_categories};
use super::serving::serving_set;
use super::targets::Target;
use crate::model::endpoint::{PortEndpoint, port_endpoints};
use crate::model::world::World;

/// The endpoints of a service port in one family, after policy.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// For policy Cluster.
    pub cluster: Vec<(Target, Locality)>,
    /// For policy Local.
    pub local: Vec<(Target, Locality)>,
    /// Some endpoint is usable somewhere in the cluster (SEM-065).
    pub usable_anywhere: bool,
    /// Endpoints that UDP flows may keep.
    pub serving: Option<Arc<BTreeSet<SocketAddr>>>,
    /// Every endpoint, whatever its conditions.
    pub listed: Vec<Target>,
}

/// The policy of a service port in one family.
pub fn policy_of(of: &PortOf) -> Policy {
    Policy {
        internal_local: of.service.internal_local,
        external_local: of.service.external_local,
        externally_accessible: of.port().is_externally_accessible(of.addresses()),
    }
}

/// Sorts the endpoints of a service port.
pub fn plan_endpoints(world: &World, of: &PortOf) -> Endpoints {
    let slices = world.slices_of(&of.service.name);
    let port = of.port();
    let endpoints = port_endpoints(slices, of.addresses().family(), &port.name, port.proto);
    let found = plan_categories(&endpoints, policy_of(of), &world.node);
    let targets = |list: &[PortEndpoint<'_>]| list.iter().map(|e| target(world, e)).collect();
    Endpoints {
        cluster: targets(&found.cluster),
        local: targets(&found.local),
        usable_anywhere: found.usable_anywhere,
        serving: serving_set(port.proto, &endpoints),
        listed: endpoints.iter().map(PortEndpoint::target).collect(),
    }
}

/// An endpoint with an address of the node itself is on the host. For other endpoints the node's name decides.
fn target(world: &World, endpoint: &PortEndpoint<'_>) -> (Target, Locality) {
    let (addr, port) = endpoint.target();
    let locality = if world.addresses.addrs.contains(&addr) {
        Locality::HOST
    } else if is_local(endpoint.endpoint, &world.node) {
        Locality::LOCAL
    } else {
        Locality::REMOTE
    };
    ((addr, port), locality)
}
