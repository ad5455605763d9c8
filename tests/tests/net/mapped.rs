//! IPv6 sockets that dial IPv4 addresses (`::ffff:a.b.c.d`), as dual stack programs do. IPv4 only, by nature.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::{Refusal, Via};
use svc_tests::daemon::Flags;
use svc_tests::topology::{Family, Options, Shape};

use crate::stage::{AT_ONCE_MS, Stage, scenario};

const VIAS: [Via; 3] = [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected];
/// Octets each way.
const BULK: usize = 1 << 16;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        for (pod_sockets, by) in [(false, "tcx"), (true, "its sockets")] {
            let flags = Flags { pod_sockets, ..Flags::default() };
            let stage = move |test: &str, backends: &[&str]| {
                let name = format!("{test} {shape_name} {by}");
                Stage::new(&name, Options { shape, ..Options::default() }, flags, backends)
            };
            trials.push(scenario(
                &format!("{shape_name}: an IPv6 socket that dials IPv4 is served, the pod's by {by}"),
                move |test| stage(test, &["near"]),
                served,
            ));
            trials.push(scenario(
                &format!(
                    "{shape_name}: an IPv6 socket that dials IPv4 is refused at once, the pod's by {by}"
                ),
                move |test| stage(test, &[]),
                move |stage| refused(stage, pod_sockets),
            ));
        }
    }
    trials
}

/// The same frontends as an IPv6 socket names them.
fn mapped(frontend: SocketAddr) -> SocketAddr {
    match frontend {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        v6 @ SocketAddr::V6(_) => v6,
    }
}

fn frontends(stage: &Stage) -> [SocketAddr; 2] {
    [stage.cluster_ip(Family::V4), stage.node_port(Family::V4)].map(mapped)
}

/// The agents compare getpeername and the source of every answer with what they dialled.
fn served(stage: &mut Stage) -> Result<()> {
    for server in ["near", "far", "node1", "node2"] {
        stage.set_backends(&[server])?;
        for client in ["node1", "pod"] {
            stage.soon_answered_by(server, client, stage.cluster_ip(Family::V4))?;
            for to in frontends(stage) {
                for via in VIAS {
                    let what = || format!("{client} {via} {to}");
                    stage.answered_by(server, client, via, to).with_context(what)?;
                    stage.agent(client)?.bulk(via, to, BULK).with_context(what)?;
                }
            }
        }
    }
    Ok(())
}

fn refused(stage: &mut Stage, pod_sockets: bool) -> Result<()> {
    let [cluster_ip, node_port] = frontends(stage);
    let mut calls = Vec::new();
    calls.extend(VIAS.map(|via| ("node1", via, cluster_ip)));
    calls.extend(VIAS.map(|via| ("node1", via, node_port)));
    if pod_sockets {
        // A pod's NodePorts are the packet path's, with the flag as without.
        calls.extend(VIAS.map(|via| ("pod", via, cluster_ip)));
    } else {
        // By ICMP; `refused` has the rows of TCP, whose first error may come too early for connect() to see.
        calls.extend([("pod", Via::UdpConnected, cluster_ip), ("pod", Via::UdpConnected, node_port)]);
    }
    for (client, via, to) in calls {
        let what = || format!("{client} {via} {to}");
        let Refusal { errno, call, elapsed_ms } = stage.agent(client)?.refused(via, to).with_context(what)?;
        ensure!(errno == libc::ECONNREFUSED, "{}: {call} says errno {errno}", what());
        ensure!(elapsed_ms < AT_ONCE_MS, "{}: {call} took {elapsed_ms} ms", what());
    }
    Ok(())
}
