//! A client that is led from one node to another: both choose the same backend for it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::manifests::SERVICE_PORT;
use svc_tests::topology::{Family, Options};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::stage::{Stage, scenario};

/// Of so many clients some get each of two backends, but for one case in two thousand.
const CLIENTS: u16 = 12;

pub fn trials() -> Vec<Trial> {
    vec![scenario(
        "a client from outside gets the same backend by whichever node it comes (SEM-067)",
        |test| Stage::new(test, Options::default(), Flags::default(), &["near", "far"]),
        nodes_agree,
    )]
}

fn nodes_agree(stage: &mut Stage) -> Result<()> {
    let external = "type: NodePort\n  externalIPs: [203.0.113.99, \"2001:db8:99::99\"]";
    let manifest = stage.manifest(&["near", "far"])?.replace("type: NodePort", external);
    stage.world.folder.write("web.yaml", &manifest)?;
    for (family, vip) in Family::BOTH.into_iter().zip(["203.0.113.99", "2001:db8:99::99"]) {
        let to = SocketAddr::new(vip.parse::<IpAddr>()?, SERVICE_PORT);
        let mut seen = BTreeSet::new();
        for node in [1, 2] {
            lead(stage, family, vip, node)?;
            wait::until_true(&format!("{vip} is served by node{node}"), CHANGE_LIMIT, || {
                stage.agent("client")?.ask(Via::UdpConnected, to, 1).map(|answers| answers.len() == 1)
            })?;
        }
        for client in 0..CLIENTS {
            let port = 40_000 + client;
            let ports = ("net/ipv4/ip_local_port_range", &*format!("{port} {port}"));
            stage.world.topology.host("client")?.netns.sysctl(&[ports])?;
            let mut servers = Vec::new();
            for node in [1, 2] {
                lead(stage, family, vip, node)?;
                // From a datagram socket: its port is free again at once.
                let answers = stage.agent("client")?.ask(Via::UdpConnected, to, 1)?;
                servers.push(answers.first().context("an answer")?.server.clone());
            }
            ensure!(
                servers[0] == servers[1],
                "{vip} from port {port}: node1 chose {}, node2 {}",
                servers[0],
                servers[1]
            );
            seen.extend(servers);
        }
        ensure!(seen.len() == 2, "every client of {vip} got {seen:?}");
    }
    Ok(())
}

/// What the client sends to the address goes to that node.
fn lead(stage: &Stage, family: Family, vip: &str, node: usize) -> Result<()> {
    let addrs = stage.world.topology.node(node).host.addrs;
    stage.world.topology.host("client")?.netns.ip(&format!("route replace {vip} via {}", addrs.of(family)))
}
