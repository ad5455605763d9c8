//! Connected UDP sockets that the socket hooks translated are ended when their backend is gone, and no others are
//! (SEM-130). The kind of pods' links does not matter: no packet is translated.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::{Job, LIMIT, Report, Via};
use svc_tests::daemon::Flags;
use svc_tests::manifests::{SERVER_PORT, Service};
use svc_tests::testbed::{Testbed, no_failure, scenario, until_more};
use svc_tests::topology::{Family, Options, service};
use svc_tests::wait;

/// Time from the changed manifest to the first reply of the new backend.
const HEAL_LIMIT: Duration = Duration::from_secs(2);
const PER_SECOND: u32 = 20;
/// Datagrams that a socket sends in half a minute.
const SENT: u64 = 30 * PER_SECOND as u64;
/// A sweep counts the tables' entries.
const FORGET_LIMIT: Duration = Duration::from_secs(30);
/// Number of open sockets of each kind. If all had one backend, nothing would be tested; that happens once in 2^8
/// times.
const SOCKETS: usize = 8;
/// ECONNABORTED, or EDESTADDRREQ if the client sends before it receives: the socket is no longer connected.
const ENDED: [&str; 2] = ["(os error 103)", "(os error 89)"];
const CLIENTS: [(&str, &str); 2] = [("the node", "node1"), ("a pod", "pod")];

pub fn trials() -> Vec<Trial> {
    let testbed = |backends: &'static [&'static str]| {
        move |test: &str| {
            Testbed::new(test, Options::default(), Flags { pod_sockets: true, ..Flags::default() }, backends)
        }
    };
    let mut trials = Vec::new();
    for (who, client) in CLIENTS {
        let name = |what: &str| format!("a connected UDP socket of {who} {what} (SEM-130)");
        trials.push(scenario(
            &name(
                "that sends for 30 s is ended each time its backend is replaced, and the new backend answers",
            ),
            testbed(&["near"]),
            move |testbed| replaced(testbed, client),
        ));
        trials.push(scenario(
            &name("is ended though its backend went while the daemon was down"),
            testbed(&["near"]),
            move |testbed| replaced_without_daemon(testbed, client),
        ));
        trials.push(scenario(
            &name("lives on with a backend that serves, and so do TCP and sockets without a Service"),
            testbed(&["near", "far"]),
            move |testbed| others_live(testbed, client),
        ));
        trials.push(scenario(
            &format!("sockets of {who} are forgotten when they close, and not before (SEM-130)"),
            testbed(&["near"]),
            move |testbed| forgotten(testbed, client),
        ));
    }
    trials
}

/// One connected UDP socket stays open in each family; many others are opened and closed.
fn forgotten(testbed: &mut Testbed, client: &str) -> Result<()> {
    let [v4, v6, mapped] = dialled(testbed);
    let open: Vec<Job> = [v4, v6]
        .into_iter()
        .map(|to| testbed.agent(client)?.start_datagrams(Via::UdpConnected, to, PER_SECOND))
        .collect::<Result<_>>()?;
    open.iter().try_for_each(|job| until_more(job, 2).map(|_| ()))?;
    for to in [v4, v6, mapped] {
        for via in [Via::Tcp, Via::UdpConnected] {
            testbed.agent(client)?.ask(via, to, 50)?;
        }
    }
    let (node, daemon) = testbed.world.on_node(1)?;
    wait::until_true("the open sockets alone are remembered", FORGET_LIMIT, || {
        let status = daemon.ask_status(node)?;
        let tables = status["tables"].as_array().context("tables")?;
        let used = |name: &str| {
            let table = tables.iter().find(|table| table["table"] == name);
            table.and_then(|table| table["used"].as_u64())
        };
        let used = ["sockets (IPv4)", "sockets (IPv6)"].map(used);
        ensure!(used == [Some(1); 2], "{used:?} are remembered");
        Ok(true)
    })?;
    for job in &open {
        no_failure("an open socket", &until_more(job, 2)?)?;
    }
    Ok(())
}

/// One client at the ClusterIP per family, and an IPv6 socket that dials IPv4.
fn dialled(testbed: &Testbed) -> [SocketAddr; 3] {
    let [v4, v6] = Family::BOTH.map(|family| testbed.cluster_ip(family));
    let mapped = match v4.ip() {
        std::net::IpAddr::V4(ip) => (ip.to_ipv6_mapped(), v4.port()).into(),
        std::net::IpAddr::V6(_) => v4,
    };
    [v4, v6, mapped]
}

fn redialling(testbed: &Testbed, client: &str) -> Result<Vec<(String, Job)>> {
    let start = |to| {
        let job = testbed.agent(client)?.start_redialling(to, PER_SECOND).with_context(|| format!("{to}"))?;
        Ok((format!("{client} {to}"), job))
    };
    let jobs: Vec<_> = dialled(testbed).into_iter().map(start).collect::<Result<_>>()?;
    for (what, job) in &jobs {
        no_failure(what, &until_more(job, 5)?)?;
    }
    Ok(jobs)
}

/// Each socket fails exactly once, at once, and after that only this server answers its client.
fn until_redialled(jobs: &[(String, Job)], before: &[Report], server: &str) -> Result<()> {
    wait::until_true(&format!("{server} answers every client"), HEAL_LIMIT, || {
        for ((what, job), before) in jobs.iter().zip(before) {
            let now = job.look()?.since(before);
            ensure!(now.by_server.contains_key(server), "{what}: {now:?}");
        }
        Ok(true)
    })?;
    for ((what, job), before) in jobs.iter().zip(before) {
        let failed = job.look()?.failed - before.failed;
        ensure!(failed == 1, "{what} failed {failed} times");
    }
    Ok(())
}

fn look(jobs: &[(String, Job)]) -> Result<Vec<Report>> {
    jobs.iter().map(|(_, job)| job.look()).collect()
}

fn sockets_ended(testbed: &mut Testbed) -> Result<u64> {
    testbed.world.daemon(1)?.status()?["udp_sockets_ended"].as_u64().context("udp_sockets_ended")
}

fn replaced(testbed: &mut Testbed, client: &str) -> Result<()> {
    let jobs = redialling(testbed, client)?;
    // The old backends would all still answer: only the end of the socket moves the client.
    let servers = ["far", "near", "far", "near"];
    let mut changes = 0;
    for server in servers {
        changes += 1;
        let before = look(&jobs)?;
        testbed.set_backends(&[server])?;
        until_redialled(&jobs, &before, server)?;
        wait::until_true("the rest of the half minute", Duration::from_secs(20), || {
            let now = look(&jobs)?;
            Ok(now.iter().all(|job| job.ok >= changes * SENT / servers.len() as u64))
        })?;
    }
    for (what, job) in jobs.iter() {
        let report = job.look()?;
        let first = report.first_failure.clone().unwrap_or_default();
        ensure!(ENDED.iter().any(|errno| first.ends_with(errno)), "{what}: {first}");
        ensure!(report.failed == changes && report.ok >= SENT, "{what}: {report:?}");
    }
    let ended = sockets_ended(testbed)?;
    ensure!(ended == changes * jobs.len() as u64, "{ended} sockets ended");
    Ok(())
}

fn replaced_without_daemon(testbed: &mut Testbed, client: &str) -> Result<()> {
    let jobs = redialling(testbed, client)?;
    testbed.world.daemon(1)?.kill()?;
    testbed.set_backends(&["far"])?;
    for (what, job) in &jobs {
        no_failure(what, &until_more(job, 5)?)?;
    }
    let before = look(&jobs)?;
    testbed.world.restart(1)?;
    until_redialled(&jobs, &before, "far")
}

fn others_live(testbed: &mut Testbed, client: &str) -> Result<()> {
    // A second Service keeps the backend that the first one loses.
    let other = Service {
        name: "other".into(),
        cluster: service(11),
        node_port: 30081,
        ..testbed.service(&["near"])?
    };
    testbed.world.folder.write_service(&other)?;
    let agent = testbed.agent(client)?;
    let mut jobs = Vec::new();
    for family in Family::BOTH {
        let to = (service(11).of(family), testbed.cluster_ip(family).port()).into();
        testbed.soon_answered_by("near", client, to)?;
        jobs.push((
            format!("of another Service {to}"),
            agent.start_datagrams_within(LIMIT, Via::UdpConnected, to, PER_SECOND)?,
        ));
        let pod = (testbed.world.topology.host("near")?.addrs.of(family), SERVER_PORT).into();
        jobs.push((
            format!("to the pod {pod}"),
            agent.start_datagrams_within(LIMIT, Via::UdpConnected, pod, PER_SECOND)?,
        ));
        let to = testbed.cluster_ip(family);
        for _ in 0..SOCKETS {
            jobs.push((format!("stream {to}"), agent.start_stream(to, PER_SECOND)?));
        }
    }
    let mut sockets = Vec::new();
    for to in dialled(testbed).into_iter().cycle().take(3 * SOCKETS) {
        sockets.push((format!("{client} {to}"), agent.start_redialling(to, PER_SECOND)?));
    }
    for (what, job) in jobs.iter().chain(&sockets) {
        no_failure(what, &until_more(job, 3)?)?;
    }
    let (lost, kept): (Vec<_>, Vec<_>) = sockets
        .into_iter()
        .map(|(what, job)| Ok((job.look()?, what, job)))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .partition(|(report, ..)| report.by_server.contains_key("near"));
    let named = |list: Vec<(Report, String, Job)>| -> Vec<(String, Job)> {
        list.into_iter().map(|(_, what, job)| (what, job)).collect()
    };
    let (lost, kept) = (named(lost), named(kept));
    ensure!(!lost.is_empty() && !kept.is_empty(), "{} of near, {} of far", lost.len(), kept.len());
    let before = look(&lost)?;
    testbed.set_backends(&["far"])?;
    until_redialled(&lost, &before, "far")?;
    for (what, job) in jobs.iter().chain(&kept) {
        no_failure(what, &until_more(job, 10)?)?;
    }
    let ended = sockets_ended(testbed)?;
    ensure!(ended == lost.len() as u64, "{ended} sockets ended, {} had lost their backend", lost.len());
    Ok(())
}
