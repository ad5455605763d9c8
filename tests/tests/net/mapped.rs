//! IPv6 sockets that dial IPv4 addresses (`::ffff:a.b.c.d`), as dual-stack programs do. IPv4 only.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::{Refusal, Via};
use svc_tests::daemon::Flags;
use svc_tests::testbed::{AT_ONCE_MS, Testbed, scenario};
use svc_tests::topology::{Family, Options, Shape};

const VIAS: [Via; 3] = [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected];
/// Octets in each direction.
const BULK: usize = 1 << 16;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        for (pod_sockets, by) in [(false, "tcx"), (true, "its sockets")] {
            let flags = Flags { pod_sockets, ..Flags::default() };
            let testbed = move |test: &str, backends: &[&str]| {
                let name = format!("{test} {shape_name} {by}");
                Testbed::new(&name, Options { shape, ..Options::default() }, flags, backends)
            };
            trials.push(scenario(
                &format!("{shape_name}: an IPv6 socket that dials IPv4 is served, the pod's by {by}"),
                move |test| testbed(test, &["near"]),
                served,
            ));
            trials.push(scenario(
                &format!(
                    "{shape_name}: an IPv6 socket that dials IPv4 is refused at once, the pod's by {by}"
                ),
                move |test| testbed(test, &[]),
                move |testbed| refused(testbed, pod_sockets),
            ));
        }
    }
    trials
}

/// The same frontend as an IPv6 socket names it.
fn mapped(frontend: SocketAddr) -> SocketAddr {
    match frontend {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        v6 @ SocketAddr::V6(_) => v6,
    }
}

fn frontends(testbed: &Testbed) -> [SocketAddr; 2] {
    [testbed.cluster_ip(Family::V4), testbed.node_port(Family::V4)].map(mapped)
}

/// The agents compare getpeername and the source of every reply with the dialled address.
fn served(testbed: &mut Testbed) -> Result<()> {
    for server in ["near", "far", "node1", "node2"] {
        testbed.set_backends(&[server])?;
        for client in ["node1", "pod"] {
            testbed.soon_answered_by(server, client, testbed.cluster_ip(Family::V4))?;
            for to in frontends(testbed) {
                for via in VIAS {
                    let what = || format!("{client} {via} {to}");
                    testbed.answered_by(server, client, via, to).with_context(what)?;
                    testbed.agent(client)?.bulk(via, to, BULK).with_context(what)?;
                }
            }
        }
    }
    Ok(())
}

fn refused(testbed: &mut Testbed, pod_sockets: bool) -> Result<()> {
    let [cluster_ip, node_port] = frontends(testbed);
    let mut calls = Vec::new();
    calls.extend(VIAS.map(|via| ("node1", via, cluster_ip)));
    calls.extend(VIAS.map(|via| ("node1", via, node_port)));
    if pod_sockets {
        // NodePorts of pods are translated in the packet path with and without the flag.
        calls.extend(VIAS.map(|via| ("pod", via, cluster_ip)));
    } else {
        // Refused by ICMP. `refused` has the rows for TCP: there the first error may come too early for connect() to
        // see it.
        calls.extend([("pod", Via::UdpConnected, cluster_ip), ("pod", Via::UdpConnected, node_port)]);
    }
    for (client, via, to) in calls {
        let what = || format!("{client} {via} {to}");
        let Refusal { errno, call, elapsed_ms } =
            testbed.agent(client)?.refused(via, to).with_context(what)?;
        ensure!(errno == libc::ECONNREFUSED, "{}: {call} says errno {errno}", what());
        ensure!(elapsed_ms < AT_ONCE_MS, "{}: {call} took {elapsed_ms} ms", what());
    }
    Ok(())
}
