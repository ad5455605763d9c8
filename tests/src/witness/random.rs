//! Random groups from a seed: unusual Services, then others with the same names. Only kube-proxy determines the
//! expected results.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::frontend::{At, Frontend};
use super::group::{Group, Step};
use super::line::Line;
use super::service::Service;
use super::settings::Settings;
use crate::agent::Via;
use crate::topology::Family;

/// Number of Services with the usual settings. Groups with other settings test the settings.
const SERVICES: usize = 40;
const STEPS: usize = 2;
const SERVICES_OF_OTHERS: usize = 8;
const STEPS_OF_OTHERS: usize = 1;
const LINES_PER_SERVICE: usize = 7;

const HOSTS: [&str; 7] = ["a1", "a2", "a3", "b1", "b2", "node1", "node2"];
const PODS: [&str; 5] = ["a1", "a2", "a3", "b1", "b2"];
const CLIENTS: [&str; 8] = ["pod", "node1", "client", "client-alt", "far", "node2", "a1", "b1"];
/// Without masquerade, replies of a server on node2 would take another path to these clients, which do not know it.
const OUTSIDE: [&str; 2] = ["client", "client-alt"];

/// A group for each of the settings.
pub fn groups(seed: u64) -> Vec<Group> {
    let others = [(true, false), (false, true), (true, true)];
    let others = others.map(|(no_detector, masquerade_all)| Settings {
        no_detector,
        masquerade_all,
        ..Settings::default()
    });
    let all = [Settings::default()].into_iter().chain(others);
    all.map(|settings| {
        let mut rng = Rng::with_seed(seed + u64::from(settings.number()));
        let is_usual = settings == Settings::default();
        let (services, steps) =
            if is_usual { (SERVICES, STEPS) } else { (SERVICES_OF_OTHERS, STEPS_OF_OTHERS) };
        let clients: Vec<_> =
            CLIENTS.into_iter().filter(|client| !settings.no_detector || !OUTSIDE.contains(client)).collect();
        Group {
            name: format!("random-{seed}-{}", settings.number()),
            about: "a random world".to_owned(),
            settings,
            steps: (0..steps).map(|_| step(&mut rng, services, &clients)).collect(),
        }
    })
    .collect()
}

fn step(rng: &mut Rng, count: usize, clients: &[&str]) -> Step {
    let (mut services, mut rows) = (BTreeMap::new(), BTreeMap::new());
    for n in 1..=count {
        let (service, kind) = service(rng);
        rows.insert(format!("s{n}"), lines(rng, &kind, clients));
        services.insert(format!("s{n}"), Some(service));
    }
    Step { services, rows }
}

/// Properties of a Service that its clients must know.
struct Kind {
    has_node_ports: bool,
    vips: u8,
    external: u8,
    stays: bool,
}

fn service(rng: &mut Rng) -> (Service, Kind) {
    let kind = one_of(rng, &["LoadBalancer", "LoadBalancer", "NodePort", "ClusterIP"]);
    let is_balanced = kind == "LoadBalancer";
    let external = rng.u8(0..=2);
    let vips: Vec<_> = (0..if is_balanced { rng.u8(0..=2) } else { 0 })
        .map(|_| one_of(rng, &[Some("VIP"), Some("VIP"), None, Some("Proxy")]).map(str::to_owned))
        .collect();
    let mut spec = json!({"type": kind});
    let mut maybe = |is_possible: bool, chance: f64, key: &str, value: Value| {
        let is_chosen = is_possible && rng.f64() < chance;
        if is_chosen {
            spec[key] = value;
        }
        is_chosen
    };
    maybe(true, 0.3, "internalTrafficPolicy", "Local".into());
    maybe(kind != "ClusterIP" || external > 0, 0.45, "externalTrafficPolicy", "Local".into());
    let stays = maybe(true, 0.15, "sessionAffinity", "ClientIP".into());
    let no_node_ports = maybe(is_balanced, 0.1, "allocateLoadBalancerNodePorts", false.into());
    let ranges = json!(["192.0.2.0/25", "10.244.1.0/24", "2001:db8:1::/121"]);
    maybe(is_balanced, 0.2, "loadBalancerSourceRanges", ranges);
    maybe(is_balanced, 0.1, "loadBalancerSourceRanges", json!(["fd00:10:244::/48"]));
    let has_node_ports = kind != "ClusterIP" && !no_node_ports;
    let label = |rng: &mut Rng, label: &str| {
        (rng.f64() < 0.04).then(|| (label.to_owned(), String::new())).into_iter().collect()
    };
    let service = Service {
        spec,
        labels: label(rng, "service.kubernetes.io/service-proxy-name"),
        slice_labels: label(rng, "service.kubernetes.io/headless"),
        endpoints: endpoints(rng, if stays { &PODS } else { &HOSTS }),
        vips: vips.clone(),
        is_held: false,
        external,
    };
    (service, Kind { has_node_ports, vips: vips.len() as u8, external, stays })
}

/// Properties that all endpoints of a Service share: all ready, or none; all with hints, or none.
struct EndpointProfile {
    sound: f64,
    zones: f64,
    nodes: f64,
}

fn endpoints(rng: &mut Rng, hosts: &[&str]) -> Vec<Endpoint> {
    let mut hosts = hosts.to_vec();
    rng.shuffle(&mut hosts);
    let profile = EndpointProfile {
        sound: one_of(rng, &[0.0, 0.5, 0.9, 1.0]),
        zones: one_of(rng, &[0.0, 0.0, 0.8, 1.0]),
        nodes: one_of(rng, &[0.0, 0.0, 0.0, 0.8, 1.0]),
    };
    let count = rng.usize(0..=4);
    hosts.iter().take(count).map(|host| endpoint(rng, &profile, host)).collect()
}

fn endpoint(rng: &mut Rng, profile: &EndpointProfile, host: &str) -> Endpoint {
    let mut words = vec![host.to_owned()];
    if rng.f64() >= profile.sound {
        let conditions =
            ["unready", "serving-unready", "terminating", "terminating", "ended", "published", "unsaid"];
        words.push(one_of(rng, &conditions).to_owned());
    }
    if rng.f64() < profile.zones {
        words.push(format!("zones={}", one_of(rng, &["zone-a", "zone-b", "zone-c", "zone-a,zone-b"])));
    }
    if rng.f64() < profile.nodes {
        words.push(format!("nodes={}", one_of(rng, &["node1", "node2", "node3", "node1,node2"])));
    }
    if rng.f64() < 0.05 {
        words.push("nodeless".to_owned());
    }
    words.push(format!("slice={}", one_of(rng, &[1, 1, 2])));
    words.join(" ").parse().unwrap_or_else(|error| unreachable!("{error}"))
}

fn lines(rng: &mut Rng, kind: &Kind, clients: &[&str]) -> Vec<Line> {
    if kind.stays {
        // One line each: two concurrent lines would race for the first selection. None for clients on servers: their
        // result depends on the selection.
        let others = clients.iter().filter(|client| !PODS.contains(client));
        return others.map(|client| line(rng, kind, client)).collect();
    }
    (0..LINES_PER_SERVICE)
        .map(|_| {
            let client = one_of(rng, clients);
            line(rng, kind, client)
        })
        .collect()
}

fn line(rng: &mut Rng, kind: &Kind, client: &str) -> Line {
    Line {
        ids: Vec::new(),
        client: client.to_owned(),
        stays: kind.stays,
        frontends: vec![frontend(rng, kind)],
        vias: vec![one_of(rng, &[Via::Tcp, Via::UdpConnected])],
        families: vec![one_of(rng, &Family::BOTH)],
        expected: None,
        by_default: None,
    }
}

fn frontend(rng: &mut Rng, kind: &Kind) -> Frontend {
    let mut all = vec![At::ClusterIp];
    if kind.has_node_ports {
        all.extend(["node1", "node2", "node1-alt"].map(|host| At::NodePort(host.to_owned())));
    }
    all.extend((0..kind.external).map(At::External));
    all.extend((0..kind.vips).map(At::Vip));
    let port = (rng.f64() < 0.05).then_some(443);
    let index = rng.usize(0..all.len());
    // A second port has no meaning at a node.
    match all.swap_remove(index) {
        at @ At::NodePort(_) => Frontend { at, port: None },
        at => Frontend { at, port },
    }
}

fn one_of<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    rng.choice(all).cloned().unwrap_or_else(|| unreachable!("there is always one to choose"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_world_again_and_another_seed_another_one() {
        let names = |seed| -> Vec<_> {
            groups(seed)
                .iter()
                .flat_map(Group::rows)
                .map(|row| row.name.replace(&seed.to_string(), ""))
                .collect()
        };
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
        assert!(names(1).len() > 300, "{} rows", names(1).len());
    }
}
