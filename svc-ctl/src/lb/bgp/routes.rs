//! The routes that this node announces. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::bgp::route::Routes;
use crate::bgp::settings::{Advertisement, BgpSettings};
use crate::lb::settings::LoadBalancerSettings;
use crate::lb::wanted::{Wanted, wanted};
use crate::model::world::World;

/// Routes of this node, and the addresses that they are for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// For each peer of this node.
    pub by_peer: BTreeMap<String, Routes>,
    /// Of all advertisements of this node, whatever their peers.
    pub of_kernel: BTreeSet<IpNet>,
    /// Every address of a pool that Services have.
    pub addresses: BTreeMap<IpAddr, Planned>,
}

/// An address, and the prefixes that announce it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Planned {
    /// As namespace/name.
    pub services: BTreeSet<String>,
    pub prefixes: BTreeSet<IpNet>,
    /// Why this node does not announce it, if it does not.
    pub why_not: Option<&'static str>,
}

/// The routes while this world is in force.
pub fn plan(world: &World, settings: &LoadBalancerSettings, bgp: &BgpSettings) -> Plan {
    let labels = &world.node.labels;
    let mut plan = Plan::default();
    for peer in bgp.peers.iter().filter(|peer| peer.is_of_node(labels)) {
        plan.by_peer.insert(peer.name.clone(), Routes::new());
    }
    for (address, wanted) in wanted(world, settings) {
        let mut planned = Planned {
            services: wanted.services.iter().map(ToString::to_string).collect(),
            ..Planned::default()
        };
        match why_not(world, &wanted) {
            Some(reason) => planned.why_not = Some(reason),
            None => {
                for advertisement in advertisements(world, settings, bgp, address, &wanted) {
                    // An aggregate would bring packets for the other addresses of policy Local here as well.
                    let prefix = match wanted.only {
                        Some(_) => IpNet::from(address),
                        None => advertisement.prefix(address),
                    };
                    plan.add(prefix, advertisement);
                    planned.prefixes.insert(prefix);
                }
                planned.why_not = planned.prefixes.is_empty().then_some("no advertisement is for it");
            }
        }
        plan.addresses.insert(address, planned);
    }
    plan
}

impl Plan {
    /// Communities of all advertisements of a prefix are united, and the greatest preference counts.
    fn add(&mut self, prefix: IpNet, advertisement: &Advertisement) {
        self.of_kernel.insert(prefix);
        for (_, routes) in self.by_peer.iter_mut().filter(|(peer, _)| advertisement.is_to_peer(peer)) {
            let attributes = routes.entry(prefix).or_default();
            attributes.communities.extend(&advertisement.communities);
            attributes.local_preference = attributes.local_preference.max(advertisement.local_preference);
        }
    }

    /// Without routes that another plan does not have: a route is announced after the kernel serves its address, and withdrawn before the
    /// kernel stops to serve it.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (peer, routes) in &mut self.by_peer {
            let others = other.by_peer.get(peer);
            routes.retain(|prefix, _| others.is_some_and(|others| others.contains_key(prefix)));
        }
        self.of_kernel.retain(|prefix| other.of_kernel.contains(prefix));
        self
    }
}

fn why_not(world: &World, wanted: &Wanted) -> Option<&'static str> {
    let node = &world.node;
    // A node without a Node object is one of manifests, and nothing can ask it to go.
    let is_leaving = !node.is_eligible && !node.addresses.is_empty();
    match &wanted.only {
        _ if node.is_excluded_from_load_balancers => {
            Some("this node is excluded from external load balancers")
        }
        _ if is_leaving => Some("this node is about to go"),
        _ if !wanted.has_endpoint => Some("no endpoint is ready"),
        Some(only) if !only.contains(&*node.name) => Some("no endpoint of this node is ready (policy Local)"),
        _ => None,
    }
}

/// Advertisements of this node for an address, for one of its Services.
fn advertisements<'a>(
    world: &'a World,
    settings: &'a LoadBalancerSettings,
    bgp: &'a BgpSettings,
    address: IpAddr,
    wanted: &'a Wanted,
) -> impl Iterator<Item = &'a Advertisement> {
    let pool = settings.pools.of(address).map(|pool| pool.name.as_str());
    let services = move || wanted.services.iter().filter_map(|name| world.services.get(name));
    bgp.advertisements.iter().filter(move |advertisement| {
        pool.is_some_and(|pool| advertisement.is_of_pool(pool))
            && advertisement.is_of_node(&world.node.labels)
            && services().any(|service| advertisement.is_of_service(&service.labels))
    })
}

#[cfg(test)]
mod tests;
