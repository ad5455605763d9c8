//! Two connections with the same tuple towards their backend: from a pod whose sockets share a source port, one direct or
//! translated by the socket hooks, the other translated in the packet path; or from a client and from the node that
//! masquerades it.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::manifests::SERVER_PORT;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options, Shape};

/// Two rounds over two sockets.
const ANSWERS: usize = 4;

pub fn trials() -> Vec<Trial> {
    let shapes = [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")];
    let trial = |(shape, name): (Shape, &str)| {
        let flags = Flags { pod_sockets: true, ..Flags::default() };
        let options = Options { shape, ..Options::default() };
        let name =
            format!("{name}: a pod dials a ClusterIP and a NodePort from one port at a time (SEM-080)");
        scenario(&name, move |test| Testbed::new(test, options, flags, &["near"]), both_are_served)
    };
    let direct = |(shape, name): (Shape, &str)| {
        let options = Options { shape, ..Options::default() };
        let name = format!(
            "{name}: a pod that has dialled a ClusterIP dials the backend from the same port (SEM-080)"
        );
        let make = move |test: &str| Testbed::new(test, options, Flags::default(), &["near"]);
        scenario(&name, make, backend_is_reached)
    };
    let mut trials: Vec<Trial> = shapes.into_iter().map(trial).chain(shapes.map(direct)).collect();
    trials.push(scenario(
        "a connection of the node takes the source port of a client's ended connection (SEM-080)",
        |test| Testbed::new(test, Options::default(), Flags::default(), &["far"]),
        node_takes_over,
    ));
    trials
}

/// If a pod's masqueraded connection has the chosen port, nf_conntrack gives a connection of the node another one.
/// Here the node has only one port to choose.
fn node_takes_over(testbed: &mut Testbed) -> Result<()> {
    const PORTS: &str = "net/ipv4/ip_local_port_range";
    for family in Family::BOTH {
        testbed.soon_answered_by("far", "client", testbed.node_port(family))?;
        let answers = testbed.agent("client")?.ask(Via::Tcp, testbed.node_port(family), 1)?;
        let port = answers.first().context("an answer")?.seen_from.port();
        let far = (testbed.world.topology.host("far")?.addrs.of(family), SERVER_PORT).into();
        testbed.world.topology.node(1).host.netns.sysctl(&[(PORTS, &format!("{port} {port}"))])?;
        // Retried: the client's last segments may still be in flight.
        testbed.soon_answered_by("far", "node1", far)?;
    }
    Ok(())
}

/// As in `--pod-sockets auto` when the daemon starts: the socket hooks connect sockets to the backend that the packet
/// path would have translated.
fn backend_is_reached(testbed: &mut Testbed) -> Result<()> {
    for server in ["near", "far", "node1"] {
        testbed.set_backends(&[server])?;
        for family in Family::BOTH {
            let host = testbed.world.topology.host(server)?;
            let to = [testbed.cluster_ip(family), (host.addrs.of(family), SERVER_PORT).into()];
            testbed.soon_answered_by(server, "pod", to[0])?;
            for via in [Via::Tcp, Via::UdpConnected] {
                let answers = testbed.agent("pod")?.ask_from_one_port(via, &to);
                let answers = answers.with_context(|| format!("{via} {to:?}, served by {server}"))?;
                ensure!(answers.len() == ANSWERS && answers.iter().all(|a| a.server == server));
                let ports: Vec<_> = answers.iter().map(|answer| answer.seen_from.port()).collect();
                ensure!(
                    ports.chunks(2).all(|pair| pair[0] != pair[1]),
                    "one port for both at the backend: {ports:?}"
                );
            }
        }
    }
    Ok(())
}

fn both_are_served(testbed: &mut Testbed) -> Result<()> {
    for server in ["near", "far", "node1", "node2"] {
        testbed.set_backends(&[server])?;
        for family in Family::BOTH {
            let (direct, translated) = (testbed.cluster_ip(family), testbed.node_port(family));
            testbed.soon_answered_by(server, "pod", direct)?;
            testbed.soon_answered_by(server, "pod", translated)?;
            for via in [Via::Tcp, Via::UdpConnected] {
                for to in [[direct, translated], [translated, direct]] {
                    let answers = testbed.agent("pod")?.ask_from_one_port(via, &to);
                    let answers = answers.with_context(|| format!("{via} {to:?}, served by {server}"))?;
                    ensure!(answers.len() == ANSWERS && answers.iter().all(|a| a.server == server));
                }
            }
        }
    }
    Ok(())
}
