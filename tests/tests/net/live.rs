//! Manifests and pods change while traffic flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::{Job, Via};
use svc_tests::daemon::Flags;
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::stage::{Stage, no_failure, scenario, until_more};

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "new connections follow edited endpoints without a failure (SEM-120)",
            near,
            follow_endpoints,
        ),
        scenario(
            "an open connection stays with an endpoint that is taken away (SEM-120, SEM-128)",
            near,
            open_connection_stays,
        ),
        scenario(
            "a Service that loses its last endpoint refuses and one that gets it back serves (SEM-129)",
            near,
            come_and_go,
        ),
        scenario("nobody listens on a NodePort: a process may (SEM-026)", near, |stage| {
            let port = stage.node_port(Family::V4).port();
            stage.agent("node1")?.serve(port)
        }),
        scenario("NodePorts follow the addresses of the node (SEM-022)", near, follow_addresses),
        scenario("a new pod is served soon after its interface appears, routed", near, |stage| {
            new_pod(stage)
        }),
        scenario("a new pod is served soon after its interface appears, bridged", near_bridged, new_pod),
        scenario("an interface made again under its name is served soon after", near, relinked),
    ]
}

fn near(test: &str) -> Result<Stage> {
    Stage::new(test, Options::default(), Flags::default(), &["near"])
}

fn near_bridged(test: &str) -> Result<Stage> {
    let options = Options { shape: Shape::Bridged, ..Options::default() };
    Stage::new(test, options, Flags::default(), &["near"])
}

/// Clients of every kind, TCP and UDP, both families.
fn loads(stage: &Stage) -> Result<Vec<(String, Job)>> {
    let kinds = [
        ("pod", Via::Tcp, stage.cluster_ip(Family::V4)),
        ("node1", Via::Tcp, stage.cluster_ip(Family::V6)),
        ("client", Via::Tcp, stage.node_port(Family::V4)),
        ("client", Via::UdpConnected, stage.node_port(Family::V6)),
        ("pod", Via::UdpUnconnected, stage.cluster_ip(Family::V6)),
    ];
    let start = |(client, via, to)| {
        let job = stage.agent(client)?.start_load(via, to, 100)?;
        Ok((format!("{client} {via} {to}"), job))
    };
    kinds.into_iter().map(start).collect()
}

fn follow_endpoints(stage: &mut Stage) -> Result<()> {
    let jobs = loads(stage)?;
    for server in ["far", "near", "far"] {
        stage.set_backends(&[server])?;
        for (what, job) in &jobs {
            only_answered_by(job, server).with_context(|| what.clone())?;
        }
    }
    jobs.into_iter().try_for_each(|(what, job)| no_failure(&what, &job.stop()?))
}

/// Waits until a stretch of answers comes from this server alone.
fn only_answered_by(job: &Job, server: &str) -> Result<()> {
    wait::until_true(&format!("only {server} answers"), CHANGE_LIMIT, || {
        let before = job.look()?;
        let stretch = until_more(job, 10)?.since(&before);
        ensure!(stretch.by_server.keys().eq([server]), "{:?} answered", stretch.by_server);
        Ok(true)
    })
}

fn open_connection_stays(stage: &mut Stage) -> Result<()> {
    let stream = stage.agent("pod")?.start_stream(stage.cluster_ip(Family::V4), 50)?;
    let outside = stage.agent("client")?.start_stream(stage.node_port(Family::V6), 50)?;
    stage.set_backends(&["far"])?;
    let new = stage.agent("node1")?.start_load(Via::Tcp, stage.cluster_ip(Family::V4), 100)?;
    only_answered_by(&new, "far")?;
    for job in [stream, outside] {
        until_more(&job, 20)?;
        let report = job.stop()?;
        no_failure("the open connection", &report)?;
        ensure!(report.by_server.keys().eq(["near"]), "{:?} answered", report.by_server);
    }
    Ok(())
}

fn come_and_go(stage: &mut Stage) -> Result<()> {
    let to = stage.cluster_ip(Family::V4);
    for _ in 0..3 {
        stage.set_backends(&[])?;
        wait::until_true("the Service refuses", CHANGE_LIMIT, || {
            Ok(stage.agent("pod")?.refused(Via::Tcp, to)?.errno == libc::ECONNREFUSED)
        })?;
        stage.set_backends(&["near"])?;
        wait::until_true("the Service serves", CHANGE_LIMIT, || {
            stage.answered_by("near", "pod", Via::Tcp, to).map(|()| true)
        })?;
    }
    Ok(())
}

/// An address comes and goes; once it is gone the node's own sockets would still be led to the Service by a stale table.
fn follow_addresses(stage: &mut Stage) -> Result<()> {
    let late = |family| -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(192, 0, 2, 77).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x77).into(),
        }
    };
    let netns = &stage.world.topology.node(1).host.netns;
    let addresses = (late(Family::V4), late(Family::V6));
    netns
        .ip(&format!("addr add {}/32 dev eth0\naddr add {}/128 dev eth0 nodad", addresses.0, addresses.1))?;
    let at = |family| SocketAddr::from((late(family), stage.node_port(family).port()));
    for family in Family::BOTH {
        for client in ["client", "node1"] {
            stage.soon_answered_by("near", client, at(family))?;
        }
    }
    netns.ip(&format!("addr del {}/32 dev eth0\naddr del {}/128 dev eth0", addresses.0, addresses.1))?;
    for family in Family::BOTH {
        wait::until_true("the node is not led to the Service by an address it lost", CHANGE_LIMIT, || {
            Ok(stage.agent("node1")?.ask(Via::Tcp, at(family), 1).is_err())
        })?;
    }
    Ok(())
}

fn new_pod(stage: &mut Stage) -> Result<()> {
    stage.world.topology.node_mut(1).add_pod("late")?;
    soon_served(stage, "late")
}

fn relinked(stage: &mut Stage) -> Result<()> {
    stage.world.topology.node(1).relink("pod")?;
    soon_served(stage, "pod")
}

fn soon_served(stage: &Stage, pod: &str) -> Result<()> {
    let to = stage.cluster_ip(Family::V4);
    wait::until_true(&format!("{pod} is served"), CHANGE_LIMIT, || {
        stage.answered_by("near", pod, Via::Tcp, to).map(|()| true)
    })?;
    stage.served_at_cluster_ip("near", pod)
}
