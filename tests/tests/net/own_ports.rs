//! Connections of the node, and masqueraded ones of pods, with a NodePort as source port.

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{NODE_PORT, Testbed, no_failure, scenario, until_more};
use svc_tests::topology::{Family, Offloads, Options};

/// The first port of the servers outside; one per connection, because the source port is always the same.
const SERVER: u16 = 9_000;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for client in ["pod", "node1"] {
        for (xdp, offloads) in [("off", Offloads::Default), ("native", Offloads::ForXdp)] {
            trials.push(scenario(
                &format!("XDP {xdp}: connections of {client} from a NodePort are answered to it"),
                move |test| {
                    let options = Options { offloads, ..Options::default() };
                    let name = format!("{test} {client} {xdp}");
                    Testbed::new(&name, options, Flags { xdp, ..Flags::default() }, &["far"])
                },
                move |testbed| answered(testbed, client),
            ));
        }
    }
    trials.push(scenario(
        "a connection of the node that is older than the NodePort of its source port goes on",
        |test| {
            let mut testbed = Testbed::without_svc(test, Options::default())?;
            testbed.world.start(Flags::default())?;
            Ok(testbed)
        },
        older,
    ));
    trials
}

/// Gives its sockets only this source port.
fn only_port(testbed: &Testbed, client: &str) -> Result<()> {
    let range = format!("{NODE_PORT} {NODE_PORT}");
    testbed.world.topology.host(client)?.netns.sysctl(&[("net/ipv4/ip_local_port_range", &range)])
}

fn answered(testbed: &mut Testbed, client: &str) -> Result<()> {
    only_port(testbed, client)?;
    for (port, backends) in (SERVER..).zip([&["far"][..], &["near"], &[]]) {
        testbed.set_backends(backends)?;
        testbed.agent("client")?.serve(port)?;
        for family in Family::BOTH {
            if let [backend] = backends {
                testbed.soon_answered_by(backend, "client", testbed.node_port(family))?;
            }
            let server = (testbed.world.topology.client.addrs.of(family), port).into();
            for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                let answer = testbed.answered_by("client", client, via, server);
                answer.with_context(|| format!("{via} {server}, backends {backends:?}"))?;
            }
        }
    }
    Ok(())
}

fn older(testbed: &mut Testbed) -> Result<()> {
    only_port(testbed, "node1")?;
    testbed.agent("client")?.serve(SERVER)?;
    let mut streams = Vec::new();
    for family in Family::BOTH {
        let server = (testbed.world.topology.client.addrs.of(family), SERVER).into();
        streams.push((family, testbed.agent("node1")?.start_stream(server, 50)?));
    }
    for (_, stream) in &streams {
        until_more(stream, 10)?;
    }
    testbed.set_backends(&["far"])?;
    for (family, stream) in streams {
        testbed.soon_answered_by("far", "client", testbed.node_port(family))?;
        until_more(&stream, 50)?;
        no_failure(&format!("the stream over {family}"), &stream.stop()?)?;
    }
    Ok(())
}
