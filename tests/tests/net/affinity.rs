//! Session affinity: `sessionAffinity: ClientIP` (SEM-230 to SEM-238), by packets and by sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::manifests::Service;
use svc_tests::testbed::{Testbed, no_failure, scenario, until_more};
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

const SERVERS: [&str; 4] = ["near", "far", "node1", "node2"];
const CLIENTS: [&str; 3] = ["pod", "node1", "client"];
const VIAS: [Via; 3] = [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected];
/// As many as in Kubernetes' own tests. By chance all would go to one of four servers once in 4^14 times.
const REQUESTS: u32 = 15;
/// Longer than any of these scenarios.
const LONG: u32 = 1_000;
const SHORT: u32 = 2;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        for (pod_sockets, by) in [(false, "tcx"), (true, "sockets")] {
            let mut add = |law: &str, act: fn(&mut Testbed) -> Result<()>| {
                let testbed = move |test: &str| {
                    let flags = Flags { pod_sockets, ..Flags::default() };
                    let options = Options { shape, ..Options::default() };
                    Testbed::new(&format!("{test} {shape_name} {by}"), options, flags, &SERVERS)
                };
                trials.push(scenario(&format!("{shape_name}, pods by {by}: {law}"), testbed, act));
            };
            add(
                "a client stays with one backend, whatever it dials (SEM-230, SEM-237)",
                match pod_sockets {
                    false => |testbed| one_backend(testbed, &CLIENTS),
                    // A pod's namespace and its address count as two clients (SEM-237).
                    true => |testbed| one_backend(testbed, &["node1", "client"]),
                },
            );
            add("a client stays with one backend of each frontend (SEM-231)", each_frontend);
            add("affinity is switched on and off under way (SEM-235)", switched);
            add("a backend that is gone loses its clients for good (SEM-233)", replaced);
            add(
                "a client may get another backend after its session affinity expires (SEM-232, SEM-238)",
                time_is_over,
            );
        }
    }
    trials
}

/// Rewrites the Service and waits until it is in force on node1, which all clients dial.
fn set(testbed: &mut Testbed, backends: &[&str], affinity: Option<u32>) -> Result<()> {
    let service = Service { affinity, ..testbed.service(backends)? };
    testbed.world.folder.write_service(&service)?;
    let (node, daemon) = testbed.world.on_node(1)?;
    wait::until_true("the new Service is in force", CHANGE_LIMIT, || {
        let frontends = daemon.get(node, "services")?;
        let frontends = frontends.as_array().context("a list of frontends")?;
        let is_new = |f: &Value| {
            f["affinity_seconds"] == affinity.unwrap_or(0)
                && f["backends"].as_array().is_some_and(|b| b.len() == backends.len())
        };
        ensure!(frontends.len() == 8 && frontends.iter().all(is_new), "{frontends:?}");
        Ok(true)
    })
}

/// Session affinity entries on node1.
fn affinity_entries(testbed: &mut Testbed) -> Result<Vec<Value>> {
    let (node, daemon) = testbed.world.on_node(1)?;
    daemon.get(node, "affinity")?.as_array().cloned().context("a list of clients")
}

fn wait_without_affinity(testbed: &mut Testbed, limit: Duration) -> Result<()> {
    wait::until_true("no client has session affinity", limit, || {
        let entries = affinity_entries(testbed)?;
        ensure!(entries.is_empty(), "{entries:?}");
        Ok(true)
    })
}

/// The servers that answer that many requests.
fn answerers(testbed: &Testbed, client: &str, via: Via, to: SocketAddr) -> Result<BTreeSet<String>> {
    let answers =
        testbed.agent(client)?.ask(via, to, REQUESTS).with_context(|| format!("{client} {via} {to}"))?;
    Ok(answers.into_iter().map(|answer| answer.server).collect())
}

/// The one server that answers them all.
fn only_answerer(testbed: &Testbed, client: &str, via: Via, to: SocketAddr) -> Result<String> {
    let servers = answerers(testbed, client, via, to)?;
    ensure!(servers.len() == 1, "{client} {via} {to}: {servers:?} answered");
    servers.into_iter().next().context("no server answered")
}

fn one_backend(testbed: &mut Testbed, clients: &[&str]) -> Result<()> {
    set(testbed, &SERVERS, Some(LONG))?;
    for family in Family::BOTH {
        for client in clients {
            for vias in [&VIAS[..1], &VIAS[1..]] {
                let mut servers = BTreeSet::new();
                for via in vias {
                    for to in [testbed.cluster_ip(family), testbed.node_port(family)] {
                        servers.insert(only_answerer(testbed, client, *via, to)?);
                    }
                }
                ensure!(servers.len() == 1, "{client} {vias:?} {family:?}: {servers:?} answered");
            }
        }
    }
    Ok(())
}

fn each_frontend(testbed: &mut Testbed) -> Result<()> {
    set(testbed, &SERVERS, Some(LONG))?;
    let mut before = Vec::new();
    for family in Family::BOTH {
        for client in CLIENTS {
            for via in VIAS {
                for to in [testbed.cluster_ip(family), testbed.node_port(family)] {
                    before.push((client, via, to, only_answerer(testbed, client, via, to)?));
                }
            }
        }
    }
    // The entries are in the kernel, so a restart of the daemon changes nothing.
    testbed.world.daemon(1)?.kill()?;
    testbed.world.restart(1)?;
    for (client, via, to, server) in before {
        let now = only_answerer(testbed, client, via, to)?;
        ensure!(now == server, "{client} {via} {to}: {server} before the restart, {now} after it");
    }
    Ok(())
}

fn switched(testbed: &mut Testbed) -> Result<()> {
    let to = testbed.cluster_ip(Family::V4);
    for _ in 0..2 {
        set(testbed, &SERVERS, Some(LONG))?;
        for client in CLIENTS {
            only_answerer(testbed, client, Via::Tcp, to)?;
        }
        set(testbed, &SERVERS, None)?;
        for client in CLIENTS {
            let servers = answerers(testbed, client, Via::Tcp, to)?;
            ensure!(servers.len() > 1, "{client}: only {servers:?} answered without affinity");
        }
        wait_without_affinity(testbed, CHANGE_LIMIT)?;
    }
    Ok(())
}

fn replaced(testbed: &mut Testbed) -> Result<()> {
    for (client, via, family) in [
        ("pod", Via::Tcp, Family::V4),
        ("node1", Via::UdpConnected, Family::V6),
        ("client", Via::Tcp, Family::V6),
    ] {
        let to = testbed.cluster_ip(family);
        set(testbed, &SERVERS, Some(LONG))?;
        let first = only_answerer(testbed, client, via, to)?;
        let others: Vec<&str> = SERVERS.into_iter().filter(|server| *server != first).collect();
        set(testbed, &others, Some(LONG))?;
        let second = only_answerer(testbed, client, via, to)?;
        ensure!(second != first, "{client}: {first} is gone and answers");
        set(testbed, &SERVERS, Some(LONG))?;
        let third = only_answerer(testbed, client, via, to)?;
        ensure!(third == second, "{client}: {first}, {second} while it was gone, {third} when it was back");
        // Nor does the backend get back a client that sent nothing in the meantime.
        set(testbed, &[], Some(LONG))?;
        wait_without_affinity(testbed, CHANGE_LIMIT)?;
    }
    Ok(())
}

fn time_is_over(testbed: &mut Testbed) -> Result<()> {
    set(testbed, &SERVERS, Some(SHORT))?;
    for (client, family) in [("pod", Family::V4), ("node1", Family::V6), ("client", Family::V6)] {
        let to = testbed.cluster_ip(family);
        // Each new connection restarts the timeout.
        let load = testbed.agent(client)?.start_load(Via::Tcp, to, 10)?;
        until_more(&load, u64::from(SHORT) * 25)?;
        let report = load.stop()?;
        no_failure(client, &report)?;
        ensure!(report.by_server.len() == 1, "{client}: {:?} answered", report.by_server);
        // Packets of an open connection do not. After the timeout any backend may be selected.
        let stream = testbed.agent(client)?.start_stream(to, 50)?;
        let before: Vec<String> = report.by_server.into_keys().collect();
        wait::until_true("another backend is chosen", Duration::from_secs(60), || {
            wait_without_affinity(testbed, Duration::from_secs(10))?;
            Ok(testbed.agent(client)?.ask(Via::Tcp, to, 1)?.iter().any(|a| !before.contains(&a.server)))
        })?;
        no_failure(client, &stream.stop()?)?;
    }
    Ok(())
}
