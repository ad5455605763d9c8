//! Connections of the node, and those of pods that it masquerades, whose source port is a NodePort.

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::topology::{Family, Offloads, Options};

use crate::stage::{NODE_PORT, Stage, no_failure, scenario, until_more};

/// The first port of the servers outside; one per connection, for the source port is always the same.
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
                    Stage::new(&name, options, Flags { xdp, ..Flags::default() }, &["far"])
                },
                move |stage| answered(stage, client),
            ));
        }
    }
    trials.push(scenario(
        "a connection of the node that is older than the NodePort of its source port goes on",
        |test| {
            let mut stage = Stage::without_svc(test, Options::default())?;
            stage.world.start(Flags::default())?;
            Ok(stage)
        },
        older,
    ));
    trials
}

/// Its sockets get this source port and no other.
fn only_port(stage: &Stage, client: &str) -> Result<()> {
    let range = format!("{NODE_PORT} {NODE_PORT}");
    stage.world.topology.host(client)?.netns.sysctl(&[("net/ipv4/ip_local_port_range", &range)])
}

fn answered(stage: &mut Stage, client: &str) -> Result<()> {
    only_port(stage, client)?;
    for (port, backends) in (SERVER..).zip([&["far"][..], &["near"], &[]]) {
        stage.set_backends(backends)?;
        stage.agent("client")?.serve(port)?;
        for family in Family::BOTH {
            if let [backend] = backends {
                stage.soon_answered_by(backend, "client", stage.node_port(family))?;
            }
            let server = (stage.world.topology.client.addrs.of(family), port).into();
            for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                let answer = stage.answered_by("client", client, via, server);
                answer.with_context(|| format!("{via} {server}, backends {backends:?}"))?;
            }
        }
    }
    Ok(())
}

fn older(stage: &mut Stage) -> Result<()> {
    only_port(stage, "node1")?;
    stage.agent("client")?.serve(SERVER)?;
    let mut streams = Vec::new();
    for family in Family::BOTH {
        let server = (stage.world.topology.client.addrs.of(family), SERVER).into();
        streams.push((family, stage.agent("node1")?.start_stream(server, 50)?));
    }
    for (_, stream) in &streams {
        until_more(stream, 10)?;
    }
    stage.set_backends(&["far"])?;
    for (family, stream) in streams {
        stage.soon_answered_by("far", "client", stage.node_port(family))?;
        until_more(&stream, 50)?;
        no_failure(&format!("the stream over {family}"), &stream.stop()?)?;
    }
    Ok(())
}
