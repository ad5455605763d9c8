//! The control: connectivity without any Service. A failure here is the harness's, not svc's.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::manifests::SERVER_PORT;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Between, Family, Offloads, Options, Shape};

/// Hosts that reach each other by their own addresses.
const DIRECT: [(&str, &str); 9] = [
    ("pod", "near"),
    ("near", "pod"),
    ("pod", "far"),
    ("pod", "node1"),
    ("pod", "node2"),
    ("node1", "near"),
    ("node1", "far"),
    ("node1", "node2"),
    ("client", "node1"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        for (offloads, offloads_name) in [
            (Offloads::Default, "default offloads"),
            (Offloads::TxOff, "tx off"),
            (Offloads::ForXdp, "for XDP"),
        ] {
            for (between, uplinks) in [(Between::Lan, "one uplink"), (Between::OwnUplink, "two uplinks")] {
                let options = Options { shape, offloads, between, ..Options::default() };
                trials.push(scenario(
                    &format!("hosts reach each other without svc, {shape_name}, {offloads_name}, {uplinks}"),
                    move |test| Testbed::without_svc(&format!("{test} {shape_name}"), options),
                    |testbed| direct(testbed),
                ));
            }
        }
    }
    trials
}

fn direct(testbed: &Testbed) -> Result<()> {
    for family in Family::BOTH {
        for (client, server) in DIRECT {
            let to: SocketAddr = (testbed.world.topology.host(server)?.addrs.of(family), SERVER_PORT).into();
            for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                if via != Via::Tcp && (client, server) == ("pod", "node1") && testbed.bridged() {
                    continue; // A server bound to no address answers from the bridge's, with svc or without.
                }
                testbed.answered_by(server, client, via, to)?;
                testbed
                    .agent(client)?
                    .bulk(via, to, 1 << 16)
                    .with_context(|| format!("{client} to {server} {via}"))?;
            }
        }
    }
    Ok(())
}
