//! A UDP socket outlives its backend: without a connection it gets no sign to start again (SEM-124).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::{Job, LIMIT, Via};
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, no_failure, scenario, until_more};
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

/// Time from the changed manifest to the first reply of the new backend on the old socket.
const HEAL_LIMIT: Duration = Duration::from_secs(2);
/// Number of open sockets of each kind. If each were selected again, all would choose the same of two once in 2^8
/// times.
const SOCKETS: usize = 8;
const VIAS: [Via; 2] = [Via::UdpConnected, Via::UdpUnconnected];

type Address = fn(&Testbed, Family) -> SocketAddr;
const CLIENTS: [(&str, &str, Address); 2] =
    [("a pod", "pod", Testbed::cluster_ip), ("an outside client", "client", Testbed::node_port)];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        for (who, client, address) in CLIENTS {
            let testbed = move |test: &str| {
                let options = Options { shape, ..Options::default() };
                Testbed::new(&format!("{test} {shape_name} {client}"), options, Flags::default(), &["near"])
            };
            trials.push(scenario(
                &format!(
                    "{shape_name}: a UDP socket of {who} goes on with the backend that replaces its own (SEM-124)"
                ),
                testbed,
                move |testbed| replaced(testbed, client, address),
            ));
            trials.push(scenario(
                &format!(
                    "{shape_name}: a UDP socket of {who} goes on when its backend's pod is deleted (SEM-125)"
                ),
                testbed,
                move |testbed| deleted(testbed, client, address),
            ));
            trials.push(scenario(
                &format!(
                    "{shape_name}: a UDP socket of {who} stays with its backend when replicas come and go (SEM-127)"
                ),
                testbed,
                move |testbed| stays(testbed, client, address),
            ));
        }
    }
    for (who, client, address) in [
        ("a pod", "pod", Testbed::cluster_ip as Address),
        ("a process of the node", "node1", Testbed::cluster_ip),
        ("a process of the node that dials NodePorts", "node1", Testbed::node_port),
    ] {
        let testbed = |test: &str| {
            let flags = Flags { pod_sockets: true, ..Flags::default() };
            Testbed::new(test, Options::default(), flags, &["near"])
        };
        trials.push(scenario(
            &format!(
                "a UDP socket of {who}, by the socket hooks, stays with its backend when replicas come and go (SEM-127)"
            ),
            testbed,
            move |testbed| stays(testbed, client, address),
        ));
    }
    trials
}

/// Sockets of both families and both kinds.
fn sockets(testbed: &Testbed, client: &str, address: Address) -> Result<Vec<(String, Job)>> {
    let mut jobs = Vec::new();
    for family in Family::BOTH {
        for via in VIAS {
            let to = address(testbed, family);
            jobs.push((format!("{client} {via} {to}"), testbed.agent(client)?.start_datagrams(via, to, 50)?));
        }
    }
    for (what, job) in &jobs {
        no_failure(what, &until_more(job, 5)?)?;
    }
    Ok(jobs)
}

fn replaced(testbed: &mut Testbed, client: &str, address: Address) -> Result<()> {
    let jobs = sockets(testbed, client, address)?;
    // To the other node, back, and to the host network: the old backends would all still answer.
    for server in ["far", "near", "node2", "far"] {
        testbed.set_backends(&[server])?;
        heal(&jobs, server)?;
    }
    Ok(())
}

fn deleted(testbed: &mut Testbed, client: &str, address: Address) -> Result<()> {
    let jobs = sockets(testbed, client, address)?;
    testbed.world.topology.node_mut(1).remove_pod("near");
    testbed.set_backends(&["far"])?;
    heal(&jobs, "far")
}

/// Within the limit the new backend answers, and after that no other.
fn heal(jobs: &[(String, Job)], server: &str) -> Result<()> {
    let before: Vec<_> = jobs.iter().map(|(_, job)| job.look()).collect::<Result<_>>()?;
    wait::until_true(&format!("{server} answers every socket"), HEAL_LIMIT, || {
        for ((what, job), before) in jobs.iter().zip(&before) {
            let answers = job.look()?.since(before).by_server;
            ensure!(answers.contains_key(server), "{what}: {answers:?} answered");
        }
        Ok(true)
    })?;
    for (what, job) in jobs {
        let from = job.look()?;
        let stretch = until_more(job, 10)?.since(&from);
        no_failure(what, &stretch)?;
        ensure!(stretch.by_server.keys().eq([server]), "{what}: {:?} answered", stretch.by_server);
    }
    Ok(())
}

fn stays(testbed: &mut Testbed, client: &str, address: Address) -> Result<()> {
    let mut jobs = Vec::new();
    for family in Family::BOTH {
        for via in VIAS {
            for _ in 0..SOCKETS {
                let to = address(testbed, family);
                // Tests whether there is a reply, not how soon.
                let job = testbed.agent(client)?.start_datagrams_within(LIMIT, via, to, 20)?;
                jobs.push((to, via, job));
            }
        }
    }
    jobs.iter().try_for_each(|(_, _, job)| until_more(job, 2).map(|_| ()))?;
    for (backends, newest) in [(&["near", "far"][..], "far"), (&["near", "node2"], "node2")] {
        testbed.set_backends(backends)?;
        for family in Family::BOTH {
            reaches(testbed, client, address(testbed, family), newest)?;
        }
        for (to, via, job) in &jobs {
            let now = until_more(job, 5)?;
            no_failure(&format!("{client} {via} {to}"), &now)?;
            ensure!(now.by_server.keys().eq(["near"]), "{via} {to}: {:?} answered", now.by_server);
        }
    }
    Ok(())
}

/// The change is in force once the new backend answers a new socket.
fn reaches(testbed: &Testbed, client: &str, to: SocketAddr, server: &str) -> Result<()> {
    wait::until_true(&format!("{server} answers a new socket"), CHANGE_LIMIT, || {
        let answers = testbed.agent(client)?.ask(Via::UdpConnected, to, 10)?;
        Ok(answers.iter().any(|answer| answer.server == server))
    })
    .with_context(|| format!("{client} {to}"))
}
