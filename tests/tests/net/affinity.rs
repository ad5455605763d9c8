//! Clients stay with their backend: `sessionAffinity: ClientIP` (SEM-230 to SEM-238), by packets and by sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::manifests::Service;
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::stage::{Stage, no_failure, scenario, until_more};

const SERVERS: [&str; 4] = ["near", "far", "node1", "node2"];
const CLIENTS: [&str; 3] = ["pod", "node1", "client"];
const VIAS: [Via; 3] = [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected];
/// Kubernetes' own tests ask this often; by chance all would go to one of four servers once in 4^14 times.
const REQUESTS: u32 = 15;
/// Longer than any of these scenarios.
const LONG: u32 = 1_000;
const SHORT: u32 = 2;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        for (pod_sockets, by) in [(false, "tcx"), (true, "sockets")] {
            let mut add = |law: &str, act: fn(&mut Stage) -> Result<()>| {
                let stage = move |test: &str| {
                    let flags = Flags { pod_sockets, ..Flags::default() };
                    let options = Options { shape, ..Options::default() };
                    Stage::new(&format!("{test} {shape_name} {by}"), options, flags, &SERVERS)
                };
                trials.push(scenario(&format!("{shape_name}, pods by {by}: {law}"), stage, act));
            };
            add(
                "a client stays with one backend, whatever it dials (SEM-230, SEM-237)",
                match pod_sockets {
                    false => |stage| one_backend(stage, &CLIENTS),
                    // A pod's namespace and its address are two clients (SEM-237).
                    true => |stage| one_backend(stage, &["node1", "client"]),
                },
            );
            add("a client stays with one backend of each frontend (SEM-231)", each_frontend);
            add("affinity is switched on and off under way (SEM-235)", switched);
            add("a backend that is gone loses its clients for good (SEM-233)", replaced);
            add("a client may get another backend when its time is over (SEM-232, SEM-238)", time_is_over);
        }
    }
    trials
}

/// Rewrites the Service and waits until node1, by which all clients go, has it in force.
fn set(stage: &mut Stage, backends: &[&str], affinity: Option<u32>) -> Result<()> {
    let service = Service { affinity, ..stage.service(backends)? };
    stage.world.folder.write_service(&service)?;
    let (node, daemon) = stage.world.on_node(1)?;
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

/// The clients that stay with a backend, as node1 lists them.
fn stays(stage: &mut Stage) -> Result<Vec<Value>> {
    let (node, daemon) = stage.world.on_node(1)?;
    daemon.get(node, "affinity")?.as_array().cloned().context("a list of clients")
}

fn nobody_stays(stage: &mut Stage, limit: Duration) -> Result<()> {
    wait::until_true("nobody stays with a backend", limit, || {
        let stays = stays(stage)?;
        ensure!(stays.is_empty(), "{stays:?}");
        Ok(true)
    })
}

/// Who answers that many requests.
fn answerers(stage: &Stage, client: &str, via: Via, to: SocketAddr) -> Result<BTreeSet<String>> {
    let answers =
        stage.agent(client)?.ask(via, to, REQUESTS).with_context(|| format!("{client} {via} {to}"))?;
    Ok(answers.into_iter().map(|answer| answer.server).collect())
}

/// The one who answers them all.
fn only_answerer(stage: &Stage, client: &str, via: Via, to: SocketAddr) -> Result<String> {
    let servers = answerers(stage, client, via, to)?;
    ensure!(servers.len() == 1, "{client} {via} {to}: {servers:?} answered");
    servers.into_iter().next().context("nobody answered")
}

fn one_backend(stage: &mut Stage, clients: &[&str]) -> Result<()> {
    set(stage, &SERVERS, Some(LONG))?;
    for family in Family::BOTH {
        for client in clients {
            for vias in [&VIAS[..1], &VIAS[1..]] {
                let mut servers = BTreeSet::new();
                for via in vias {
                    for to in [stage.cluster_ip(family), stage.node_port(family)] {
                        servers.insert(only_answerer(stage, client, *via, to)?);
                    }
                }
                ensure!(servers.len() == 1, "{client} {vias:?} {family:?}: {servers:?} answered");
            }
        }
    }
    Ok(())
}

fn each_frontend(stage: &mut Stage) -> Result<()> {
    set(stage, &SERVERS, Some(LONG))?;
    let mut before = Vec::new();
    for family in Family::BOTH {
        for client in CLIENTS {
            for via in VIAS {
                for to in [stage.cluster_ip(family), stage.node_port(family)] {
                    before.push((client, via, to, only_answerer(stage, client, via, to)?));
                }
            }
        }
    }
    // What is remembered is the kernel's: a daemon that dies and comes back changes nothing.
    stage.world.daemon(1)?.kill()?;
    stage.world.restart(1)?;
    for (client, via, to, server) in before {
        let now = only_answerer(stage, client, via, to)?;
        ensure!(now == server, "{client} {via} {to}: {server} before the restart, {now} after it");
    }
    Ok(())
}

fn switched(stage: &mut Stage) -> Result<()> {
    let to = stage.cluster_ip(Family::V4);
    for _ in 0..2 {
        set(stage, &SERVERS, Some(LONG))?;
        for client in CLIENTS {
            only_answerer(stage, client, Via::Tcp, to)?;
        }
        set(stage, &SERVERS, None)?;
        for client in CLIENTS {
            let servers = answerers(stage, client, Via::Tcp, to)?;
            ensure!(servers.len() > 1, "{client}: only {servers:?} answered without affinity");
        }
        nobody_stays(stage, CHANGE_LIMIT)?;
    }
    Ok(())
}

fn replaced(stage: &mut Stage) -> Result<()> {
    for (client, via, family) in [
        ("pod", Via::Tcp, Family::V4),
        ("node1", Via::UdpConnected, Family::V6),
        ("client", Via::Tcp, Family::V6),
    ] {
        let to = stage.cluster_ip(family);
        set(stage, &SERVERS, Some(LONG))?;
        let first = only_answerer(stage, client, via, to)?;
        let others: Vec<&str> = SERVERS.into_iter().filter(|server| *server != first).collect();
        set(stage, &others, Some(LONG))?;
        let second = only_answerer(stage, client, via, to)?;
        ensure!(second != first, "{client}: {first} is gone and answers");
        set(stage, &SERVERS, Some(LONG))?;
        let third = only_answerer(stage, client, via, to)?;
        ensure!(third == second, "{client}: {first}, {second} while it was gone, {third} when it was back");
        // Nor does it get back a client that did not come meanwhile.
        set(stage, &[], Some(LONG))?;
        nobody_stays(stage, CHANGE_LIMIT)?;
    }
    Ok(())
}

fn time_is_over(stage: &mut Stage) -> Result<()> {
    set(stage, &SERVERS, Some(SHORT))?;
    for (client, family) in [("pod", Family::V4), ("node1", Family::V6), ("client", Family::V6)] {
        let to = stage.cluster_ip(family);
        // Each new connection begins the time anew.
        let load = stage.agent(client)?.start_load(Via::Tcp, to, 10)?;
        until_more(&load, u64::from(SHORT) * 25)?;
        let report = load.stop()?;
        no_failure(client, &report)?;
        ensure!(report.by_server.len() == 1, "{client}: {:?} answered", report.by_server);
        // The packets of an open one do not; and then any backend may be chosen.
        let stream = stage.agent(client)?.start_stream(to, 50)?;
        let before: Vec<String> = report.by_server.into_keys().collect();
        wait::until_true("another backend is chosen", Duration::from_secs(60), || {
            nobody_stays(stage, Duration::from_secs(10))?;
            Ok(stage.agent(client)?.ask(Via::Tcp, to, 1)?.iter().any(|a| !before.contains(&a.server)))
        })?;
        no_failure(client, &stream.stop()?)?;
    }
    Ok(())
}
