//! Paths without an Ethernet header, like WireGuard's and IPIP's: to the backend's node, and to the client.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Between, Family, Offloads, Options};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

const VIAS: [Via; 3] = [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected];
/// Octets in each direction: more than one segment.
const BULK: usize = 1 << 18;
/// `status` has the counters of the last sweep.
const COUNTERS_LIMIT: Duration = Duration::from_secs(15);

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (xdp, offloads) in [("off", Offloads::Default), ("native", Offloads::ForXdp)] {
        let options = Options { offloads, between: Between::Tunnel, ..Options::default() };
        let testbed = move |test: &str| {
            Testbed::new(&format!("{test} {xdp}"), options, Flags { xdp, ..Flags::default() }, &["far"])
        };
        let sentence = format!("XDP {xdp}: a backend behind a device without Ethernet header is reached");
        trials.push(scenario(&sentence, testbed, backend_behind));
        let sentence = format!("XDP {xdp}: a client behind a device without Ethernet header is served");
        trials.push(scenario(&sentence, testbed, client_behind));
        let sentence = format!("XDP {xdp}: a client behind a device without Ethernet header is refused");
        trials.push(scenario(&sentence, testbed, client_refused));
    }
    trials
}

fn backend_behind(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        let (cluster_ip, node_port) = (testbed.cluster_ip(family), testbed.node_port(family));
        let ways = [("client", node_port), ("pod", node_port), ("pod", cluster_ip), ("node1", node_port)];
        for (client, to) in ways {
            for via in VIAS {
                let answer = testbed.answered_by("far", client, via, to);
                answer.with_context(|| format!("{client} {via} {to}"))?;
            }
            let done = testbed.agent(client)?.bulk(Via::Tcp, to, BULK);
            done.with_context(|| format!("bulk: {client} {to}"))?;
        }
    }
    senders_were_told(testbed)
}

/// Segments were too large for the tunnel between the nodes, and their senders got ICMP errors.
fn senders_were_told(testbed: &mut Testbed) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    wait::until_true("senders get ICMP errors with the tunnel's MTU", COUNTERS_LIMIT, || {
        let status = daemon.ask_status(node)?;
        let count = status["counters"]["reject_too_big"].as_u64().unwrap_or(0);
        ensure!(count > 0, "{}", status["counters"]);
        Ok(true)
    })
}

fn client_behind(testbed: &mut Testbed) -> Result<()> {
    testbed.world.topology.client_by_tunnel()?;
    for server in ["far", "near", "node1", "node2"] {
        testbed.set_backends(&[server])?;
        for family in Family::BOTH {
            for to in [testbed.node_port(family), testbed.cluster_ip(family)] {
                testbed.soon_answered_by(server, "client", to)?;
                for via in VIAS {
                    let answer = testbed.answered_by(server, "client", via, to);
                    answer.with_context(|| format!("{via} {to}, served by {server}"))?;
                }
                let done = testbed.agent("client")?.bulk(Via::Tcp, to, BULK);
                done.with_context(|| format!("bulk: {to}, served by {server}"))?;
            }
        }
    }
    senders_were_told(testbed)
}

fn client_refused(testbed: &mut Testbed) -> Result<()> {
    testbed.world.topology.client_by_tunnel()?;
    for family in Family::BOTH {
        testbed.soon_answered_by("far", "client", testbed.node_port(family))?;
    }
    testbed.set_backends(&[])?;
    for family in Family::BOTH {
        for to in [testbed.node_port(family), testbed.cluster_ip(family)] {
            for via in [Via::UdpConnected, Via::Tcp] {
                wait::until_true("the client is refused", CHANGE_LIMIT, || {
                    let refusal = testbed.agent("client")?.refused(via, to)?;
                    ensure!(refusal.errno == libc::ECONNREFUSED, "{via} {to}: {refusal:?}");
                    Ok(true)
                })?;
            }
        }
    }
    Ok(())
}
