//! Datagram flows that a change makes stale: untranslated ones, and a few among very many others. The case
//! `stale-flows` of the tier `golden` has the rest.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use svc_ctl::dataplane::flows::list;
use svc_tests::packet::place::{Family, in_family};
use svc_tests::packet::trial::Shared;

use crate::ask::{Origin, PacketOutcome};
use crate::edits::{World, trial};

/// `service`, its slices with three endpoints, and those with one.
const OBJECTS: &str = "\
-- service.yaml --
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIPs: [172.30.1.1, 'fd00::ac1e:101']
  externalIPs: [1.2.3.4, 'fd00::102:304']
  ports: [{name: web, port: 8000, protocol: UDP}, {name: other, port: 9000, protocol: UDP}]

-- slices.yaml@three --
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: web, port: 4000, protocol: UDP}]
endpoints: [{addresses: [10.240.0.4]}, {addresses: [10.240.1.5]}, {addresses: [10.240.2.6]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: web, port: 4000, protocol: UDP}]
endpoints: [{addresses: ['fd00::af0:4']}, {addresses: ['fd00::af0:105']}, {addresses: ['fd00::af0:206']}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: other-4, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: other, port: 4000, protocol: UDP}]
endpoints: [{addresses: [10.240.0.4]}]

-- slices.yaml@one --
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: web, port: 4000, protocol: UDP}]
endpoints: [{addresses: [10.240.0.4]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: web, port: 4000, protocol: UDP}]
endpoints: [{addresses: ['fd00::af0:4']}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: other-4, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: other, port: 4000, protocol: UDP}]
endpoints: [{addresses: [10.240.0.4]}]
";

/// A Service with one endpoint: on this node, on another one, and on none.
fn moving() -> String {
    let slices = |name: &str, node: Option<&str>| {
        let slice = |family: u8, address: &str| {
            let endpoint = node.map(|node| format!("{{addresses: ['{address}'], nodeName: {node}}}"));
            let endpoint = endpoint.unwrap_or_default();
            format!(
                "apiVersion: discovery.k8s.io/v1\n\
                 kind: EndpointSlice\n\
                 metadata: {{name: web-{family}, labels: {{kubernetes.io/service-name: web}}}}\n\
                 addressType: IPv{family}\n\
                 ports: [{{name: web, port: 4000, protocol: UDP}}]\n\
                 endpoints: [{endpoint}]\n"
            )
        };
        let (v4, v6) = (slice(4, "10.244.2.10"), slice(6, "fd00::af4:20a"));
        format!("-- slices.yaml@{name} --\n{v4}---\n{v6}")
    };
    let service = OBJECTS.split("\n\n").next().unwrap_or_default();
    [service, &slices("here", Some("test-node")), &slices("there", Some("other")), &slices("nowhere", None)]
        .join("\n\n")
}

/// Flows of other Services; two records each, in a table with room for 262,144.
const FOREIGN: u32 = 100_000;
/// Flows to endpoints that will be removed.
const FEW: u32 = 1;
const MANY: u32 = 100;
/// With many stale flows one pass over the table may take this many times as long as with few. A pass for each flow
/// would take fifty times as long.
const SLOWER: u32 = 10;

pub fn trials(lab: &Shared) -> Vec<Trial> {
    let left_alone = "datagrams that were left alone are translated once there is a Service, and those to another port are \
        left alone as before (PAR-193)";
    let one_pass = "of a hundred thousand flows one pass over the table finds those that must end, be they few or many \
        (PAR-194)";
    let moves = "a client from outside reaches a backend that moves to another node with its address, from the node's then";
    let paused =
        "a backend that goes and comes back on another node with its address is reached from the node's then";
    vec![
        trial(lab, format!("{left_alone} [V4]"), OBJECTS, |world| untranslated(world, Family::V4)),
        trial(lab, format!("{left_alone} [V6]"), OBJECTS, |world| untranslated(world, Family::V6)),
        trial(lab, format!("{moves} [V4]"), moving(), |world| moved(world, Family::V4, false)),
        trial(lab, format!("{moves} [V6]"), moving(), |world| moved(world, Family::V6, false)),
        trial(lab, format!("{paused} [V4]"), moving(), |world| moved(world, Family::V4, true)),
        trial(lab, format!("{paused} [V6]"), moving(), |world| moved(world, Family::V6, true)),
        trial(lab, one_pass.to_owned(), OBJECTS, among_many),
    ]
}

fn untranslated(world: &mut World<'_>, family: Family) -> Result<()> {
    let vip = in_family(Ipv4Addr::new(1, 2, 3, 4), family);
    let clients =
        [(Origin::Pod, Ipv4Addr::new(10, 8, 0, 1)), (Origin::Outside, Ipv4Addr::new(203, 0, 113, 9))];
    let dials = clients.map(|(origin, addr)| (origin, SocketAddr::new(in_family(addr, family), 5000)));
    let meet =
        |world: &World<'_>, port| dials.map(|(origin, src)| world.send(origin, src, (vip, port).into()));
    for port in [8000, 3000] {
        for outcome in meet(world, port) {
            ensure!(outcome? == PacketOutcome::Untouched, "without a Service port {port} is not left alone");
        }
    }
    world.apply(&["service.yaml", "slices.yaml@one"])?;
    let only = in_family(Ipv4Addr::new(10, 240, 0, 4), family);
    for outcome in meet(world, 8000) {
        let outcome = outcome?;
        ensure!(
            matches!(outcome, PacketOutcome::Reaches { backend, .. } if backend == (only, 4000).into()),
            "port 8000: {outcome}"
        );
    }
    for outcome in meet(world, 3000) {
        let outcome = outcome?;
        ensure!(outcome == PacketOutcome::Untouched, "port 3000: {outcome}");
    }
    Ok(())
}

/// The backend moves to the other node and back, with or without a time in which it is on none.
fn moved(world: &mut World<'_>, family: Family, has_pauses: bool) -> Result<()> {
    let (vip, backend) = (Ipv4Addr::new(1, 2, 3, 4), Ipv4Addr::new(10, 244, 2, 10));
    let to = SocketAddr::new(in_family(vip, family), 8000);
    let backend = SocketAddr::new(in_family(backend, family), 4000);
    let src = SocketAddr::new(in_family(Ipv4Addr::new(203, 0, 113, 9), family), 5000);
    for (slices, is_masqueraded) in [("here", false), ("there", true), ("here", true)] {
        world.apply(&["service.yaml", &format!("slices.yaml@{slices}")])?;
        let outcome = world.send(Origin::Outside, src, to)?;
        let expected = PacketOutcome::Reaches { backend, is_masqueraded };
        ensure!(outcome == expected, "the backend is {slices}: {outcome}");
        if has_pauses {
            world.apply(&["slices.yaml@nowhere"])?;
        }
    }
    Ok(())
}

fn among_many(world: &mut World<'_>) -> Result<()> {
    let few = sweep_among_many(world, FEW)?;
    let many = sweep_among_many(world, MANY)?;
    eprintln!("one pass over {} records: {few:?} with {FEW} stale flows, {many:?} with {MANY}", 2 * FOREIGN);
    ensure!(many < few * SLOWER, "{few:?} with {FEW} stale flows, {many:?} with {MANY}: one pass for each?");
    Ok(())
}

/// Flows that begin before all are assured: the table of others holds few.
const ASSURED_AT_ONCE: u32 = 8_192;

/// The time to end that many stale flows, and no others.
fn sweep_among_many(world: &mut World<'_>, stale: u32) -> Result<Duration> {
    world.lab.kernel.clear_flows()?;
    world.apply(&["service.yaml", "slices.yaml@three"])?;
    let (vip, kept) = (IpAddr::from([172, 30, 1, 1]), [10, 240, 0, 4]);
    let client =
        |number: u32| SocketAddr::from(([10, 8, (number / 250) as u8, (number % 250) as u8 + 1], 5000));
    for number in 0..FOREIGN {
        let [_, a, b, _] = number.to_be_bytes();
        let src = SocketAddr::from(([10, 9, a, b], 1024 + (number % 256) as u16));
        world.send(Origin::Pod, src, (vip, 9000).into())?;
        if number % ASSURED_AT_ONCE == 0 {
            world.lab.kernel.assure_flows()?;
        }
    }
    world.lab.kernel.assure_flows()?;
    // Clients of the endpoint that stays keep it.
    let mut begun = Vec::new();
    let mut clients = (0..).map(client);
    while begun.iter().filter(|(_, is_stale)| *is_stale).count() < stale as usize {
        let Some(src) = clients.next() else { break };
        let outcome = world.send(Origin::Pod, src, (vip, 8000).into())?;
        let PacketOutcome::Reaches { backend, .. } = outcome else { anyhow::bail!("{src}: {outcome}") };
        begun.push((src, backend.ip() != IpAddr::from(kept)));
    }
    let before = list(&world.lab.kernel.pins)?.len();
    ensure!(before == 2 * (FOREIGN as usize + begun.len()), "{before} records: the table has lost some");
    let took = world.edit(&["slices.yaml@one"])?;
    let after = list(&world.lab.kernel.pins)?.len();
    // The reverse records are left for replies that are under way.
    ensure!(
        before - after == stale as usize,
        "{before} records before, {after} after {stale} flows became stale"
    );
    for (src, _) in begun {
        let outcome = world.send(Origin::Pod, src, (vip, 8000).into())?;
        ensure!(
            matches!(outcome, PacketOutcome::Reaches { backend, .. } if backend.ip() == IpAddr::from(kept)),
            "{src}: {outcome}"
        );
    }
    Ok(took)
}
