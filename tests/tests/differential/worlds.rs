//! Random worlds: Kubernetes' objects, and changes of them.

use std::net::IpAddr;

use svc_tests::model::network::{NODE, at};
use svc_tests::model::world::{
    Endpoint, Ingress, NodePorts, Port, Proto, Selection, Service, Settings, Slice, THIS_NODE, World,
};

use super::rng::Rng;

const OTHER_NODE: &str = "other-node";
const ZONES: [&str; 2] = ["a", "b"];

pub fn world(rng: &mut Rng) -> World {
    let services: Vec<Service> = (0..1 + rng.below(6)).map(|i| service(rng, i as u8)).collect();
    let slices = services.iter().flat_map(|s| slices(rng, s)).collect();
    World {
        zone: rng.pick(&[None, Some("a"), Some("b")]),
        node_ports: rng.weigh(&[(3, NodePorts::All), (1, NodePorts::Primary)]),
        has_pod_addresses: rng.percent(84),
        settings: settings(rng),
        broken: None,
        services,
        slices,
    }
}

fn settings(rng: &mut Rng) -> Settings {
    Settings {
        masquerade_all: rng.percent(20),
        masquerade_to_local: rng.percent(30),
        knows_pods: rng.percent(80),
        has_service_cidr: rng.percent(60),
        has_pools: rng.percent(60),
        selection: rng.pick(&[None, Some(Selection::Random), Some(Selection::Maglev)]),
    }
}

/// Some clients outside, and sometimes the node and its pods.
fn source_ranges(rng: &mut Rng) -> Vec<(IpAddr, u8)> {
    let mut ranges = Vec::new();
    for (octets, bits) in [([203, 0, 113, 8], 30), ([192, 0, 2, 0], 24), ([10, 244, 1, 128], 25)] {
        for is_v4 in [true, false] {
            if rng.percent(40) {
                ranges.push((at(octets, is_v4), if is_v4 { bits } else { 96 + bits }));
            }
        }
    }
    ranges
}

/// One external Service with one endpoint on another node: its clients use up the SNAT ports.
pub fn crowded(rng: &mut Rng) -> World {
    let proto = rng.pick(&[Proto::Tcp, Proto::Udp, Proto::Sctp]);
    let port = Port { name: "http", proto, port: 80, node_port: Some(30_000) };
    let is_v4 = rng.percent(50);
    let service = Service {
        cluster_ips: vec![at([10, 96, 0, 10], is_v4)],
        external_ips: Vec::new(),
        ingress: Vec::new(),
        kind: "NodePort",
        external_local: false,
        affinity: None,
        ports: vec![port],
        ..service(rng, 0)
    };
    let endpoint = Endpoint {
        addr: at([10, 244, 2, 1], is_v4),
        ready: None,
        serving: None,
        terminating: None,
        node: Some(OTHER_NODE),
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
    };
    let slice = Slice {
        name: "s0-0".to_owned(),
        service: service.name.clone(),
        is_v4,
        ports: vec![("http", proto, 8_080)],
        endpoints: vec![endpoint],
    };
    World { slices: vec![slice], services: vec![service], ..world(rng) }
}

/// The world after a change of a Service or of its endpoints.
pub fn changed(rng: &mut Rng, world: &World) -> World {
    let mut next = world.clone();
    if next.services.is_empty() {
        return next;
    }
    let i = rng.below(next.services.len());
    let number = number_of(&next.services[i]);
    match rng.below(6) {
        0 => drop(next.services.remove(i)),
        1 => next.services[i] = service(rng, number),
        _ => {
            let service = next.services[i].clone();
            next.slices.retain(|s| s.service != service.name);
            next.slices.extend(slices(rng, &service));
            next.slices.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
    next
}

fn number_of(service: &Service) -> u8 {
    service.name.trim_start_matches('s').parse().unwrap_or(0)
}

/// The n-th Service, with unique addresses and NodePorts.
fn service(rng: &mut Rng, n: u8) -> Service {
    let kind = rng.weigh(&[(3, "ClusterIP"), (4, "NodePort"), (3, "LoadBalancer")]);
    let families: &[bool] = rng.weigh(&[(6, &[true, false][..]), (1, &[true]), (1, &[false])]);
    let both = |octets: [u8; 4]| -> Vec<IpAddr> { families.iter().map(|v4| at(octets, *v4)).collect() };
    let mut external_ips = if rng.percent(25) { both([198, 18, 0, n]) } else { Vec::new() };
    if rng.percent(5) {
        // An address of the node itself.
        external_ips.extend(both(NODE[1]));
    }
    let mode = rng.pick(&[None, Some("VIP"), Some("Proxy")]);
    let load_balancer = if kind == "LoadBalancer" { both([198, 19, 0, n]) } else { Vec::new() };
    let has_node_ports = kind == "NodePort" || (kind == "LoadBalancer" && rng.percent(70));
    let mut ports = Vec::new();
    for (i, name) in ["http", "dns", "other-dns"].iter().take(1 + rng.below(3)).enumerate() {
        let proto = match i {
            0 => rng.weigh(&[(6, Proto::Tcp), (2, Proto::Udp), (2, Proto::Sctp)]),
            1 => Proto::Udp,
            _ => rng.pick(&[Proto::Tcp, Proto::Sctp]),
        };
        let node_port = has_node_ports.then_some(30_000 + 10 * u16::from(n) + i as u16);
        ports.push(Port { name, proto, port: [80, 53, 53][i] + 100 * u16::from(n), node_port });
    }
    Service {
        name: format!("s{n}"),
        kind,
        cluster_ips: both([10, 96, 0, 10 + n]),
        external_ips,
        ingress: load_balancer.into_iter().map(|ip| Ingress { ip, mode }).collect(),
        source_ranges: if rng.percent(35) { source_ranges(rng) } else { Vec::new() },
        internal_local: rng.percent(20),
        external_local: rng.percent(30),
        affinity: rng.weigh(&[(3, None), (1, Some(10_800)), (1, Some(40))]),
        ports,
    }
}

/// Properties that a Service's endpoints share.
#[derive(Clone, Copy)]
enum EndpointProfile {
    Ready,
    Mixed,
    Ending,
    Gone,
}

fn slices(rng: &mut Rng, service: &Service) -> Vec<Slice> {
    let profile = rng.weigh(&[
        (60, EndpointProfile::Ready),
        (25, EndpointProfile::Mixed),
        (10, EndpointProfile::Ending),
        (8, EndpointProfile::Gone),
    ]);
    let is_hinted = rng.percent(25);
    let mut slices = Vec::new();
    for is_v4 in service.cluster_ips.iter().map(|ip| ip.is_ipv4()) {
        for i in 0..rng.weigh(&[(1, 0), (8, 1), (3, 2)]) {
            // A slice may lack a port, or have another number for it; the number may be the Service's own.
            let is_same = rng.percent(25);
            let number = |p: &Port| if is_same { p.port } else { 8_000 + p.port % 100 + i };
            let mut ports: Vec<_> = service.ports.iter().map(|p| (p.name, p.proto, number(p))).collect();
            if rng.percent(10) {
                ports.pop();
            }
            let count = if matches!(profile, EndpointProfile::Gone) { 0 } else { 1 + rng.below(4) };
            let mut endpoints: Vec<Endpoint> = Vec::new();
            for _ in 0..count {
                let one = endpoint(rng, is_v4, profile, is_hinted);
                // It is undefined which of two different duplicates is used (SEM-051).
                if endpoints.iter().all(|known| known.addr != one.addr) {
                    endpoints.push(one);
                }
            }
            slices.push(Slice {
                name: format!("{}-{}-{i}", service.name, if is_v4 { "v4" } else { "v6" }),
                service: service.name.clone(),
                is_v4,
                ports,
                endpoints,
            });
        }
    }
    slices
}

fn endpoint(rng: &mut Rng, is_v4: bool, profile: EndpointProfile, is_hinted: bool) -> Endpoint {
    let low = 1 + rng.below(5) as u8;
    // Pods here on their own links and on the bridge, the node itself, pods elsewhere: plain, without a neighbor,
    // with a narrow path, without a route, by the other uplink; an address outside the cluster.
    let (octets, node) = rng.weigh(&[
        (6, ([10, 244, 1, 130], Some(THIS_NODE))),
        (6, ([10, 244, 1, 131], Some(THIS_NODE))),
        (6, ([10, 244, 1, 20], Some(THIS_NODE))),
        (6, ([10, 244, 1, 21], Some(THIS_NODE))),
        (2, ([10, 244, 1, 30], Some(THIS_NODE))),
        (5, (NODE[0], Some(THIS_NODE))),
        (2, (NODE[2], Some(THIS_NODE))),
        (18, ([10, 244, 2, low], Some(OTHER_NODE))),
        (6, ([10, 244, 3, low], Some(OTHER_NODE))),
        (6, ([10, 244, 4, low], Some(OTHER_NODE))),
        (2, ([10, 244, 5, low], Some(OTHER_NODE))),
        (6, ([10, 244, 6, low], Some(OTHER_NODE))),
        (2, ([203, 0, 113, 77], None)),
    ]);
    let flag = |rng: &mut Rng| rng.pick(&[None, Some(true), Some(false)]);
    let (ready, serving, terminating) = match profile {
        EndpointProfile::Ready | EndpointProfile::Gone => {
            (rng.pick(&[None, Some(true)]), rng.pick(&[None, Some(true)]), None)
        }
        EndpointProfile::Mixed => (flag(rng), flag(rng), flag(rng)),
        EndpointProfile::Ending => (Some(false), flag(rng), Some(rng.percent(80))),
    };
    let hints = |rng: &mut Rng, of: &[&'static str]| -> Vec<&'static str> {
        of.iter().copied().filter(|_| is_hinted && rng.percent(60)).collect()
    };
    Endpoint {
        addr: at(octets, is_v4),
        ready,
        serving,
        terminating,
        node,
        zone_hints: hints(rng, &ZONES),
        node_hints: if rng.percent(30) { hints(rng, &[THIS_NODE, OTHER_NODE]) } else { Vec::new() },
    }
}
