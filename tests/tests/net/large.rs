//! Packets that do not fit: datagrams in fragments, and connections whose way is narrower than its ends know.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;

use crate::stage::{Stage, scenario};

/// Four fragments each way.
const DATAGRAM: usize = 5_000;
/// Octets each way.
const BULK: usize = 1 << 18;
/// `status` tells the counters of the last sweep.
const COUNTERS_LIMIT: Duration = Duration::from_secs(15);
/// More than the least that IPv6 allows, less than what the ends of a connection agree on.
const NARROW: &str = "1300";

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        let options = Options { shape, ..Options::default() };
        let stage =
            move |test: &str| Stage::new(&format!("{test} {name}"), options, Flags::default(), &["near"]);
        trials.push(scenario(
            &format!("{name}: a datagram in fragments is answered by one in fragments (SEM-109)"),
            stage,
            fragments,
        ));
        trials.push(scenario(
            &format!("{name}: a connection learns of a narrow hop behind the Service (SEM-079)"),
            stage,
            narrow_hop,
        ));
    }
    trials
}

fn fragments(stage: &mut Stage) -> Result<()> {
    for server in ["near", "far", "node1", "node2"] {
        stage.set_backends(&[server])?;
        for family in Family::BOTH {
            let (cluster_ip, node_port) = (stage.cluster_ip(family), stage.node_port(family));
            for (client, to) in [("pod", cluster_ip), ("pod", node_port), ("client", node_port)] {
                stage.soon_answered_by(server, client, to)?;
                for via in [Via::UdpConnected, Via::UdpUnconnected] {
                    let answer = stage.agent(client)?.ask_long(via, to, DATAGRAM);
                    let answer =
                        answer.with_context(|| format!("{client} {via} {to}, served by {server}"))?;
                    ensure!(answer.server == server, "{} answered for {server}", answer.server);
                }
            }
        }
    }
    Ok(())
}

/// The link to the backend's pod takes less than its two ends, so that its node has to tell the sender.
fn narrow_hop(stage: &mut Stage) -> Result<()> {
    for (node, server) in [(1, "near"), (2, "far")] {
        stage.set_backends(&[server])?;
        let host = &stage.world.topology.node(node).host;
        host.netns.ip(&format!("link set veth{server} mtu {NARROW}"))?;
        for family in Family::BOTH {
            let (cluster_ip, node_port) = (stage.cluster_ip(family), stage.node_port(family));
            for (client, to) in [("pod", cluster_ip), ("pod", node_port), ("client", node_port)] {
                stage.soon_answered_by(server, client, to)?;
                let done = stage.agent(client)?.bulk(Via::Tcp, to, BULK);
                done.with_context(|| format!("{client} {to}, served by {server}"))?;
            }
        }
    }
    // Else nothing was too large, and nothing has been shown.
    let (node, daemon) = stage.world.on_node(1)?;
    wait::until_true("errors have been translated", COUNTERS_LIMIT, || {
        let status = daemon.ask_status(node)?;
        let count = status["counters"]["icmp_translated"].as_u64().unwrap_or(0);
        ensure!(count > 0, "{}", status["counters"]);
        Ok(true)
    })
}
