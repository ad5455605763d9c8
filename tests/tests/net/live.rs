//! Manifests and pods change while traffic flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::{Job, Via};
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, no_failure, scenario, until_more};
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "new connections follow edited endpoints without a failure (SEM-120)",
            near,
            follow_endpoints,
        ),
        scenario(
            "an open connection keeps its endpoint after the endpoint is removed (SEM-120, SEM-128)",
            near,
            open_connection_stays,
        ),
        scenario(
            "a Service that loses its last endpoint refuses and one that gets it back serves (SEM-129)",
            near,
            come_and_go,
        ),
        scenario("svc does not listen on a NodePort, so a process may (SEM-026)", near, |testbed| {
            let port = testbed.node_port(Family::V4).port();
            testbed.agent("node1")?.serve(port)
        }),
        scenario("NodePorts follow the addresses of the node (SEM-022)", near, follow_addresses),
        scenario("a new pod is served soon after its interface appears, routed", near, |testbed| {
            new_pod(testbed)
        }),
        scenario("a new pod is served soon after its interface appears, bridged", near_bridged, new_pod),
        scenario("an interface made again under its name is served soon after", near, relinked),
    ]
}

fn near(test: &str) -> Result<Testbed> {
    Testbed::new(test, Options::default(), Flags::default(), &["near"])
}

fn near_bridged(test: &str) -> Result<Testbed> {
    let options = Options { shape: Shape::Bridged, ..Options::default() };
    Testbed::new(test, options, Flags::default(), &["near"])
}

/// Clients of every kind, TCP and UDP, both families.
fn loads(testbed: &Testbed) -> Result<Vec<(String, Job)>> {
    let kinds = [
        ("pod", Via::Tcp, testbed.cluster_ip(Family::V4)),
        ("node1", Via::Tcp, testbed.cluster_ip(Family::V6)),
        ("client", Via::Tcp, testbed.node_port(Family::V4)),
        ("client", Via::UdpConnected, testbed.node_port(Family::V6)),
        ("pod", Via::UdpUnconnected, testbed.cluster_ip(Family::V6)),
    ];
    let start = |(client, via, to)| {
        let job = testbed.agent(client)?.start_load(via, to, 100)?;
        Ok((format!("{client} {via} {to}"), job))
    };
    kinds.into_iter().map(start).collect()
}

fn follow_endpoints(testbed: &mut Testbed) -> Result<()> {
    let jobs = loads(testbed)?;
    for server in ["far", "near", "far"] {
        testbed.set_backends(&[server])?;
        for (what, job) in &jobs {
            only_answered_by(job, server).with_context(|| what.clone())?;
        }
    }
    jobs.into_iter().try_for_each(|(what, job)| no_failure(&what, &job.stop()?))
}

/// Waits until several consecutive replies come from this server only.
fn only_answered_by(job: &Job, server: &str) -> Result<()> {
    wait::until_true(&format!("only {server} answers"), CHANGE_LIMIT, || {
        let before = job.look()?;
        let stretch = until_more(job, 10)?.since(&before);
        ensure!(stretch.by_server.keys().eq([server]), "{:?} answered", stretch.by_server);
        Ok(true)
    })
}

fn open_connection_stays(testbed: &mut Testbed) -> Result<()> {
    let stream = testbed.agent("pod")?.start_stream(testbed.cluster_ip(Family::V4), 50)?;
    let outside = testbed.agent("client")?.start_stream(testbed.node_port(Family::V6), 50)?;
    testbed.set_backends(&["far"])?;
    let new = testbed.agent("node1")?.start_load(Via::Tcp, testbed.cluster_ip(Family::V4), 100)?;
    only_answered_by(&new, "far")?;
    for job in [stream, outside] {
        until_more(&job, 20)?;
        let report = job.stop()?;
        no_failure("the open connection", &report)?;
        ensure!(report.by_server.keys().eq(["near"]), "{:?} answered", report.by_server);
    }
    Ok(())
}

fn come_and_go(testbed: &mut Testbed) -> Result<()> {
    let to = testbed.cluster_ip(Family::V4);
    for _ in 0..3 {
        testbed.set_backends(&[])?;
        wait::until_true("the Service refuses", CHANGE_LIMIT, || {
            Ok(testbed.agent("pod")?.refused(Via::Tcp, to)?.errno == libc::ECONNREFUSED)
        })?;
        testbed.set_backends(&["near"])?;
        wait::until_true("the Service serves", CHANGE_LIMIT, || {
            testbed.answered_by("near", "pod", Via::Tcp, to).map(|()| true)
        })?;
    }
    Ok(())
}

/// An address is added and removed. If the table were stale, the node's own sockets would still be led to the
/// Service.
fn follow_addresses(testbed: &mut Testbed) -> Result<()> {
    let late = |family| -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(192, 0, 2, 77).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x77).into(),
        }
    };
    let netns = &testbed.world.topology.node(1).host.netns;
    let addresses = (late(Family::V4), late(Family::V6));
    netns
        .ip(&format!("addr add {}/32 dev eth0\naddr add {}/128 dev eth0 nodad", addresses.0, addresses.1))?;
    let at = |family| SocketAddr::from((late(family), testbed.node_port(family).port()));
    for family in Family::BOTH {
        for client in ["client", "node1"] {
            testbed.soon_answered_by("near", client, at(family))?;
        }
    }
    netns.ip(&format!("addr del {}/32 dev eth0\naddr del {}/128 dev eth0", addresses.0, addresses.1))?;
    for family in Family::BOTH {
        wait::until_true("the node is not led to the Service by an address it lost", CHANGE_LIMIT, || {
            Ok(testbed.agent("node1")?.ask(Via::Tcp, at(family), 1).is_err())
        })?;
    }
    Ok(())
}

fn new_pod(testbed: &mut Testbed) -> Result<()> {
    testbed.world.topology.node_mut(1).add_pod("late")?;
    soon_served(testbed, "late")
}

fn relinked(testbed: &mut Testbed) -> Result<()> {
    testbed.world.topology.node(1).relink("pod")?;
    soon_served(testbed, "pod")
}

fn soon_served(testbed: &Testbed, pod: &str) -> Result<()> {
    let to = testbed.cluster_ip(Family::V4);
    wait::until_true(&format!("{pod} is served"), CHANGE_LIMIT, || {
        testbed.answered_by("near", pod, Via::Tcp, to).map(|()| true)
    })?;
    testbed.served_at_cluster_ip("near", pod)
}
