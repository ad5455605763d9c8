//! The addresses to announce, and the nodes that may. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Members;
use super::settings::LoadBalancerSettings;
use crate::model::name::ServiceName;
use crate::model::world::World;
use crate::node::Interface;

/// An address that Services have, and what it needs.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub services: BTreeSet<ServiceName>,
    /// Some endpoint is ready.
    pub has_endpoint: bool,
    /// Only nodes with a ready endpoint may answer: these.
    pub only: Option<BTreeSet<String>>,
}

/// Addresses of pools that Services in force have.
pub fn wanted(world: &World, settings: &LoadBalancerSettings) -> BTreeMap<IpAddr, Wanted> {
    let mut all: BTreeMap<IpAddr, Wanted> = BTreeMap::new();
    for service in world.services.values() {
        for family in &service.families {
            for address in family.load_balancer_ips.iter().filter(|ip| settings.pools.of(**ip).is_some()) {
                let endpoints =
                    world.slices_of(&service.name).filter(|slice| slice.family == family.family());
                let ready: Vec<_> =
                    endpoints.flat_map(|slice| &slice.endpoints).filter(|e| e.ready).collect();
                let wanted = all.entry(*address).or_default();
                wanted.services.insert(service.name.clone());
                wanted.has_endpoint |= !ready.is_empty();
                if service.external_local {
                    let nodes: BTreeSet<String> =
                        ready.iter().filter_map(|e| e.node.as_ref()).map(ToString::to_string).collect();
                    wanted.only = Some(match wanted.only.take() {
                        Some(others) => others.intersection(&nodes).cloned().collect(),
                        None => nodes,
                    });
                }
            }
        }
    }
    all
}

/// Nodes that may answer: they are up, on this network, not excluded, and have an endpoint where that counts.
pub fn candidates(members: &Members, interface: &Interface, wanted: &Wanted) -> BTreeSet<String> {
    let is_near = |ip: &IpAddr| interface.subnets.iter().any(|net| net.contains(ip));
    let may = members.iter().filter(|(name, member)| {
        let has_endpoint = wanted.only.as_ref().is_none_or(|only| only.contains(*name));
        member.is_up && !member.is_excluded && member.addresses.iter().any(is_near) && has_endpoint
    });
    may.map(|(name, _)| name.clone()).collect()
}
