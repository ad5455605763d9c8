//! The endpoints of a service port, and which of them this node may select (SEM-040 to SEM-076).

use std::net::SocketAddr;

use super::network;
use super::world::{Endpoint, Port, Service, THIS_NODE, World};

/// A possible backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    pub at: SocketAddr,
    pub place: Place,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// A pod of this node.
    Local,
    /// An address of this node itself.
    Host,
    Remote,
}

/// The lists from which a service port selects (SEM-060, SEM-061).
#[derive(Clone, Debug, Default)]
pub struct Lists {
    pub cluster: Vec<Target>,
    pub local: Vec<Target>,
    /// Some endpoint of the cluster is usable (SEM-065).
    pub any: bool,
}

/// Every endpoint of a service port in a family once, as (its port, it). Of duplicates the first, unless it is
/// terminating and a later one is not (SEM-051).
fn merged<'a>(world: &'a World, service: &Service, port: &Port, is_v4: bool) -> Vec<(u16, &'a Endpoint)> {
    let mut all: Vec<(u16, &Endpoint)> = Vec::new();
    let slices = world.slices.iter().filter(|s| s.service == service.name && s.is_v4 == is_v4);
    // All slices of a Service count together, whatever number each has for the port.
    for slice in slices.take(if world.holds("SEM-046") { usize::MAX } else { 1 }) {
        for (name, proto, number) in &slice.ports {
            if (*name, *proto) != (port.name, port.proto) {
                continue;
            }
            for endpoint in &slice.endpoints {
                match all.iter_mut().find(|(n, e)| n == number && e.addr == endpoint.addr) {
                    Some(known) if known.1.is_terminating() && !endpoint.is_terminating() => {
                        known.1 = endpoint;
                    }
                    Some(_) => {}
                    None => all.push((*number, endpoint)),
                }
            }
        }
    }
    all
}

fn target(world: &World, (port, endpoint): (u16, &Endpoint)) -> Target {
    let place = match () {
        () if network::is_node(endpoint.addr) => Place::Host,
        () if is_local(world, endpoint) => Place::Local,
        () => Place::Remote,
    };
    Target { at: (endpoint.addr, port).into(), place }
}

fn is_local(world: &World, endpoint: &Endpoint) -> bool {
    if world.holds("SEM-052") { endpoint.node == Some(THIS_NODE) } else { endpoint.node.is_some() }
}

/// Serving and terminating: used if no endpoint is ready.
fn is_fallback(world: &World, endpoint: &Endpoint) -> bool {
    endpoint.is_terminating() && (endpoint.is_serving() || !world.holds("SEM-064"))
}

/// The port has a frontend for clients from outside in this family (SEM-019).
pub fn is_external(service: &Service, port: &Port, is_v4: bool) -> bool {
    port.node_port.is_some()
        || service.external_ips.iter().any(|ip| ip.is_ipv4() == is_v4)
        || service.ingress.iter().any(|i| i.ip.is_ipv4() == is_v4 && i.mode != Some("Proxy"))
}

/// The external policy applies to this Service.
pub fn has_local_policy(world: &World, service: &Service) -> bool {
    world.holds("SEM-019")
        && service.external_local
        && (service.kind != "ClusterIP" || !service.external_ips.is_empty())
}

/// SEM-060 to SEM-073.
pub fn lists(world: &World, service: &Service, port: &Port, is_v4: bool) -> Lists {
    let all = merged(world, service, port, is_v4);
    let is_external = is_external(service, port, is_v4);
    let uses_cluster = !service.internal_local || (is_external && world.holds("SEM-060"));
    let uses_local =
        service.internal_local || (has_local_policy(world, service) && is_external && world.holds("SEM-061"));
    let targets = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<Target> {
        all.iter().filter(|(_, e)| wanted(e)).map(|one| target(world, *one)).collect()
    };
    let ready: Vec<&Endpoint> = all.iter().map(|(_, e)| *e).filter(|e| e.is_ready(world)).collect();
    let here = hinted(&ready, world);
    let mut lists = Lists::default();
    if uses_cluster {
        lists.cluster = targets(&|e| e.is_ready(world) && here(e));
        if lists.cluster.is_empty() {
            lists.cluster = targets(&|e| is_fallback(world, e));
        }
        lists.any = !lists.cluster.is_empty();
    }
    if uses_local {
        lists.any |= all.iter().any(|(_, e)| e.is_ready(world) || is_fallback(world, e));
        lists.local =
            targets(&|e| is_local(world, e) && e.is_ready(world) && (world.holds("SEM-063") || here(e)));
        // Decided for this node alone, whatever other nodes have.
        if lists.local.is_empty() && (ready.is_empty() || world.holds("SEM-062")) {
            lists.local = targets(&|e| is_local(world, e) && is_fallback(world, e));
        }
    }
    lists.any |= !world.holds("SEM-065");
    lists
}

/// The ready endpoints that topology hints allow.
fn hinted(ready: &[&Endpoint], world: &World) -> impl Fn(&Endpoint) -> bool {
    let for_node = |e: &Endpoint| e.node_hints.contains(&THIS_NODE);
    let zone = world.zone;
    let for_zone = move |e: &Endpoint| zone.is_some_and(|z| e.zone_hints.contains(&z));
    // An endpoint without hints disables them for all.
    let all = |has: &dyn Fn(&Endpoint) -> bool| match world.holds("SEM-073") {
        true => ready.iter().all(|e| has(e)),
        false => ready.iter().any(|e| has(e)),
    };
    let by_node = all(&|e| !e.node_hints.is_empty()) && ready.iter().any(|e| for_node(e));
    let by_zone = all(&|e| !e.zone_hints.is_empty()) && ready.iter().any(|e| for_zone(e));
    let (by_node_holds, by_zone_holds) = (world.holds("SEM-071"), world.holds("SEM-072"));
    move |e| match (by_node, by_zone) {
        (true, _) => for_node(e) == by_node_holds,
        (false, true) => for_zone(e) == by_zone_holds,
        (false, false) => true,
    }
}

/// Backends that a UDP flow of the port may keep (SEM-124): all that may be selected.
pub fn serving(world: &World, service: &Service, port: &Port, is_v4: bool) -> Vec<SocketAddr> {
    let all = merged(world, service, port, is_v4).into_iter();
    all.filter(|(_, e)| e.is_ready(world) || e.is_serving()).map(|one| target(world, one).at).collect()
}

/// Every endpoint, whatever its conditions (SEM-233).
pub fn listed(world: &World, service: &Service, port: &Port, is_v4: bool) -> Vec<SocketAddr> {
    merged(world, service, port, is_v4).into_iter().map(|one| target(world, one).at).collect()
}
