//! A client whose packets move from one node to another: both nodes select the same backend for it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::manifests::SERVICE_PORT;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

/// With this many clients both backends are selected, except in one case in two thousand.
const CLIENTS: u16 = 12;

pub fn trials() -> Vec<Trial> {
    vec![scenario(
        "a client from outside gets the same backend by whichever node it comes (SEM-067)",
        |test| Testbed::new(test, Options::default(), Flags::default(), &["near", "far"]),
        nodes_agree,
    )]
}

fn nodes_agree(testbed: &mut Testbed) -> Result<()> {
    let external = "type: NodePort\n  externalIPs: [203.0.113.99, \"2001:db8:99::99\"]";
    let manifest = testbed.manifest(&["near", "far"])?.replace("type: NodePort", external);
    testbed.world.folder.write("web.yaml", &manifest)?;
    for (family, vip) in Family::BOTH.into_iter().zip(["203.0.113.99", "2001:db8:99::99"]) {
        let to = SocketAddr::new(vip.parse::<IpAddr>()?, SERVICE_PORT);
        let mut seen = BTreeSet::new();
        for node in [1, 2] {
            lead(testbed, family, vip, node)?;
            wait::until_true(&format!("{vip} is served by node{node}"), CHANGE_LIMIT, || {
                testbed.agent("client")?.ask(Via::UdpConnected, to, 1).map(|answers| answers.len() == 1)
            })?;
        }
        for client in 0..CLIENTS {
            let port = 40_000 + client;
            let ports = ("net/ipv4/ip_local_port_range", &*format!("{port} {port}"));
            testbed.world.topology.host("client")?.netns.sysctl(&[ports])?;
            let mut servers = Vec::new();
            for node in [1, 2] {
                lead(testbed, family, vip, node)?;
                // From a datagram socket, because its port is free again at once.
                let answers = testbed.agent("client")?.ask(Via::UdpConnected, to, 1)?;
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

/// Routes the client's packets to the address through that node.
fn lead(testbed: &Testbed, family: Family, vip: &str, node: usize) -> Result<()> {
    let addrs = testbed.world.topology.node(node).host.addrs;
    testbed.world.topology.host("client")?.netns.ip(&format!("route replace {vip} via {}", addrs.of(family)))
}
