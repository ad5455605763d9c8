//! Random cases: flows of 1 to 20 packets to a world's frontends and other destinations, interleaved.

use std::net::{IpAddr, SocketAddr};

use svc_tests::model::memory::Direction;
use svc_tests::model::network::{NODE, PODS, UPLINKS, at, is_pod};
use svc_tests::model::packet::{ACK, FIN, Part, RST, SYN, Shape, header};
use svc_tests::model::world::{Proto, Service, Tuple, World};

use super::case::{Case, Delivery, Flow, Step};
use super::rng::Rng;
use super::worlds;

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut rng = Rng(seed);
    let is_crowd = rng.percent(4);
    let world = if is_crowd { worlds::crowded(&mut rng) } else { worlds::world(&mut rng) };
    let mut worlds = vec![world.clone()];
    for _ in 0..rng.weigh(&[(5, 0), (3, 1), (2, 3)]) {
        worlds.push(worlds::changed(&mut rng, &worlds[worlds.len() - 1]));
    }
    let dialled: Vec<_> = worlds.iter().flat_map(frontends).collect();
    let backends: Vec<_> = worlds.iter().flat_map(endpoints).collect();
    let mut flows = Vec::new();
    for _ in 0..if is_crowd { 90 } else { 20 + rng.below(50) } {
        flows.push(flow(&mut rng, &dialled, &backends, &flows));
    }
    let scripts = flows.iter().enumerate().map(|(i, flow)| script(&mut rng, i, flow)).collect();
    let mut events: Vec<Step> = worlds.drain(1..).map(|world| Step::Change(Box::new(world))).collect();
    for _ in 0..rng.weigh(&[(6, 0), (2, 1), (2, 3)]) {
        events.push(Step::Age(rng.pick(&[5, 20, 45, 200, 5_000, 100_000])));
    }
    let mut steps = weave(&mut rng, scripts, events);
    if rng.below(400) == 0 {
        steps.splice(0..0, storm(&mut rng, &world, &mut flows));
    }
    Case { world, flows, steps }
}

/// More errors than a node sends in a short time, even on a slow machine: a client that repeatedly dials a port that
/// its Service does not have.
fn storm(rng: &mut Rng, world: &World, flows: &mut Vec<Flow>) -> Vec<Step> {
    let Service { cluster_ips, ports, .. } = rng.pick(&world.services.iter().collect::<Vec<_>>());
    let dst = SocketAddr::new(cluster_ips[0], ports[0].port + 7);
    let src = SocketAddr::new(at([203, 0, 113, 9], dst.is_ipv4()), 4_000);
    flows.push(Flow { interface: "up0", tuple: Tuple { proto: Proto::Udp, src, dst } });
    let step = Step::Client { flow: flows.len() - 1, shape: Shape::default(), delivery: delivery(rng) };
    vec![step; 1_300]
}

/// All frontends of a world.
fn frontends(world: &World) -> Vec<(SocketAddr, Proto)> {
    let mut all = Vec::new();
    for service in &world.services {
        let ingress = service.ingress.iter().map(|i| i.ip);
        let ips = service.cluster_ips.iter().chain(&service.external_ips).copied().chain(ingress);
        for port in &service.ports {
            all.extend(ips.clone().map(|ip| (SocketAddr::new(ip, port.port), port.proto)));
            for (node, cluster_ip) in
                NODE.iter().flat_map(|n| service.cluster_ips.iter().map(move |c| (n, c)))
            {
                let number = port.node_port.map(|n| SocketAddr::new(at(*node, cluster_ip.is_ipv4()), n));
                all.extend(number.map(|socket| (socket, port.proto)));
            }
        }
    }
    all
}

fn endpoints(world: &World) -> Vec<(SocketAddr, Proto)> {
    let ports = world.slices.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p)));
    ports.flat_map(|(s, (_, proto, n))| s.endpoints.iter().map(|e| ((e.addr, *n).into(), *proto))).collect()
}

fn flow(
    rng: &mut Rng,
    dialled: &[(SocketAddr, Proto)],
    backends: &[(SocketAddr, Proto)],
    others: &[Flow],
) -> Flow {
    let any = |rng: &mut Rng, of: &[(SocketAddr, Proto)]| (!of.is_empty()).then(|| rng.pick(of));
    let (dst, proto) = match rng.below(100) {
        0..92 => any(rng, dialled),
        92..94 => any(rng, backends),
        // A Service's address with another port or protocol.
        94..97 => any(rng, dialled).map(|(s, p)| match rng.below(3) {
            0 => (SocketAddr::new(s.ip(), s.port() + 7), p),
            1 => (s, if p == Proto::Tcp { Proto::Udp } else { Proto::Tcp }),
            _ => (s, rng.pick(&[Proto::Sctp, Proto::Icmp])),
        }),
        // A host outside; another node's NodePort (SEM-107); an unallocated Service address; an unused one of a pool.
        _ => None,
    }
    .unwrap_or_else(|| {
        let is_v4 = rng.percent(50);
        let stranger = rng.pick(&[
            ([203, 0, 113, 99], 443),
            ([192, 0, 2, 2], 30_000),
            ([10, 96, 0, 99], 80),
            ([198, 19, 0, 99], 80),
        ]);
        let proto = rng.pick(&[Proto::Tcp, Proto::Udp, Proto::Sctp, Proto::Icmp]);
        (SocketAddr::new(at(stranger.0, is_v4), stranger.1), proto)
    });
    let is_v4 = dst.is_ipv4();
    // A direct flow preferably gets the tuple of a client that is translated already.
    let like = others.iter().filter(|o| o.tuple.src.is_ipv4() == is_v4 && o.tuple.proto == proto);
    let like: Vec<&Flow> = like.collect();
    if rng.percent(20) && !like.is_empty() {
        let like = rng.pick(&like);
        return Flow { tuple: Tuple { proto, src: like.tuple.src, dst }, ..*like };
    }
    let (interface, ip) = client(rng, is_v4);
    let port = if rng.percent(70) { 4_000 + rng.below(6) as u16 } else { 40_000 + rng.below(20_000) as u16 };
    Flow { interface, tuple: Tuple { proto, src: SocketAddr::new(ip, port), dst } }
}

fn client(rng: &mut Rng, is_v4: bool) -> (&'static str, IpAddr) {
    let low = 9 + rng.below(8) as u8;
    let (interface, octets) = match rng.below(10) {
        0..5 => {
            let last = rng.pick(&[130, 131, 20, 21]);
            (PODS[[130, 131, 20, 21].iter().position(|l| *l == last).unwrap_or(0)], [10, 244, 1, last])
        }
        5..9 => ("up0", rng.weigh(&[(8, [203, 0, 113, low]), (1, [192, 0, 2, 2]), (1, [192, 0, 2, low])])),
        _ => (rng.pick(&UPLINKS[1..]), [203, 0, 113, low]),
    };
    (interface, at(octets, is_v4))
}

/// The packets of a flow's two ends, in order.
fn script(rng: &mut Rng, flow: usize, of: &Flow) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut say = |rng: &mut Rng, is_client: bool, flags: u8| {
        let (shape, delivery) = (shape(rng, flags, of), delivery(rng));
        let step = if is_client {
            Step::Client { flow, shape, delivery }
        } else {
            Step::Backend { flow, shape, delivery }
        };
        steps.push(step);
        if rng.percent(2) {
            let by = rng.pick(&[Direction::Forward, Direction::Reverse]);
            let shape = Shape { has_options: false, is_stray: false, ..shape };
            let (octets, is_router) = (rng.pick(&[8, 24, 500]), rng.percent(60));
            steps.push(Step::Error { flow, by, shape, octets, is_router, delivery });
        }
        if matches!(of.tuple.proto, Proto::Udp | Proto::Sctp) && rng.percent(3) {
            steps.extend(in_parts(rng, flow, of.tuple.proto, is_client, delivery));
        }
        if is_pod(of.interface) && rng.percent(2) {
            steps.push(Step::Direct { flow, shape: Shape { flags: SYN, ..shape }, delivery });
        }
    };
    if of.tuple.proto != Proto::Tcp {
        for i in 0..1 + rng.below(8) {
            let is_client = i == 0 || rng.percent(75);
            say(rng, is_client, 0);
        }
        return steps;
    }
    for _ in 0..1 + rng.weigh(&[(6, 0), (3, 1), (1, 2)]) {
        match rng.below(100) {
            0..92 => say(rng, true, SYN),
            // The reply to a connection of another host.
            92..96 => say(rng, true, SYN | ACK),
            _ => {}
        }
        if rng.percent(60) {
            say(rng, false, SYN | ACK);
        }
        for _ in 0..rng.below(6) {
            let is_client = rng.percent(75);
            say(rng, is_client, ACK);
        }
        match rng.below(10) {
            0..4 => {
                let first = rng.percent(50);
                say(rng, first, FIN | ACK);
                say(rng, !first, FIN | ACK);
                say(rng, first, ACK);
            }
            4..6 => {
                let by_client = rng.percent(50);
                say(rng, by_client, RST);
            }
            _ => {}
        }
    }
    steps
}

/// A packet in fragments, mostly in order and complete.
fn in_parts(rng: &mut Rng, flow: usize, proto: Proto, is_client: bool, delivery: Delivery) -> Vec<Step> {
    let payload = 40 + rng.below(60);
    let whole = header(proto) + payload;
    let id = rng.next() as u16;
    let (first, second) = (8 * (1 + rng.below(2)), 8 * (3 + rng.below(2)));
    let mut parts = vec![(0, first), (first, second), (second, whole)];
    match rng.below(8) {
        0 => parts.rotate_left(1),
        1 => drop(parts.remove(0)),
        _ => {}
    }
    let ttl = if rng.percent(25) { 1 } else { 64 };
    let step = |(from, to)| {
        let shape = Shape { payload, ttl, part: Some(Part { id, from, to }), ..Shape::default() };
        if is_client {
            Step::Client { flow, shape, delivery }
        } else {
            Step::Backend { flow, shape, delivery }
        }
    };
    parts.into_iter().map(step).collect()
}

fn shape(rng: &mut Rng, flags: u8, of: &Flow) -> Shape {
    Shape {
        flags,
        ttl: if rng.percent(3) { 1 + rng.below(2) as u8 } else { 2 + rng.below(200) as u8 },
        payload: match rng.below(100) {
            0..80 if flags & SYN != 0 => 0,
            0..88 => rng.below(64),
            _ => 1_180 + rng.below(270),
        },
        has_options: rng.percent(4),
        has_no_sum: of.tuple.proto == Proto::Udp && rng.percent(6),
        // XDP checks the MAC only when a flow begins.
        is_stray: flags == SYN && rng.percent(2),
        part: None,
    }
}

fn delivery(rng: &mut Rng) -> Delivery {
    Delivery { by_xdp: rng.percent(50), is_summed: rng.percent(20), elsewhere: rng.percent(20) }
}

/// Interleaves scripts, each in its own order.
fn weave(rng: &mut Rng, scripts: Vec<Vec<Step>>, events: Vec<Step>) -> Vec<Step> {
    let mut left: Vec<_> = scripts.into_iter().map(|s| s.into_iter().peekable()).collect();
    let mut steps = Vec::new();
    // Flows begin one after the other, with a few at a time under way.
    while !left.is_empty() {
        let at = rng.below(left.len().min(8));
        match left[at].next() {
            Some(step) => steps.push(step),
            None => drop(left.remove(at)),
        }
    }
    for event in events {
        // Changes of Kubernetes' objects may be reordered; each is a whole world.
        let at = rng.below(steps.len() + 1);
        steps.insert(at, event);
    }
    steps
}
