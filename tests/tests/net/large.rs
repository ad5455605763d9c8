//! Packets that are too large: datagrams in fragments, and connections over a path with a smaller MTU.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::netns::Netns;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::{command, wait};

/// Four fragments in each direction.
const DATAGRAM: usize = 5_000;
/// Octets in each direction.
const BULK: usize = 1 << 18;
/// `status` has the counters of the last sweep.
const COUNTERS_LIMIT: Duration = Duration::from_secs(15);
/// More than the minimum of IPv6, less than the MSS that the ends agree on.
const NARROW: &str = "1300";
/// The MSS that a server advertises behind a link with an MTU of 1500.
const ADVERTISED: &str = "1440";

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        let options = Options { shape, ..Options::default() };
        let testbed =
            move |test: &str| Testbed::new(&format!("{test} {name}"), options, Flags::default(), &["near"]);
        trials.push(scenario(
            &format!("{name}: a datagram in fragments is answered by one in fragments (SEM-109)"),
            testbed,
            fragments,
        ));
        trials.push(scenario(
            &format!("{name}: a connection learns of a narrow hop behind the Service (SEM-079)"),
            testbed,
            narrow_hop,
        ));
    }
    trials.push(scenario(
        "routed: connections whose segments GRO joins into lists are translated (rx-gro-list)",
        |test| {
            let mut testbed = Testbed::without_svc(test, Options::default())?;
            // Packets to pods of the node pass FORWARD, where they are counted.
            testbed.world.start_with(Flags::default(), &["--masquerade-through-stack", "never"])?;
            Ok(testbed)
        },
        lists,
    ));
    trials
}

/// GRO joins segments as they are, one behind the other (`SKB_GSO_FRAGLIST`), if no socket of the node takes them.
fn lists(testbed: &mut Testbed) -> Result<()> {
    let node = testbed.world.topology.node(1);
    // Segments leave one by one.
    for feature in ["tso", "gso"] {
        testbed.world.topology.client.netns.offload("eth0", feature, false)?;
    }
    for feature in ["gro", "rx-gro-list"] {
        node.host.netns.offload("eth0", feature, true)?;
    }
    node.host.netns.nft(
        "table inet lists {
            counter joined { }
            chain seen {
                type filter hook forward priority -10;
                meta length > 1500 counter name joined
            }
        }",
    )?;
    for server in ["near", "far"] {
        testbed.set_backends(&[server])?;
        for family in Family::BOTH {
            let to = testbed.node_port(family);
            testbed.soon_answered_by(server, "client", to)?;
            let done = testbed.agent("client")?.bulk(Via::Tcp, to, BULK);
            done.with_context(|| format!("{to}, served by {server}"))?;
        }
    }
    let shown =
        command::run(testbed.world.topology.node(1).host.netns.command("nft")?.args(["list", "counters"]))?;
    ensure!(shown.contains("packets") && !shown.contains("packets 0 "), "GRO has joined nothing: {shown}");
    Ok(())
}

fn fragments(testbed: &mut Testbed) -> Result<()> {
    for server in ["near", "far", "node1", "node2"] {
        testbed.set_backends(&[server])?;
        for family in Family::BOTH {
            let (cluster_ip, node_port) = (testbed.cluster_ip(family), testbed.node_port(family));
            for (client, to) in [("pod", cluster_ip), ("pod", node_port), ("client", node_port)] {
                testbed.soon_answered_by(server, client, to)?;
                for via in [Via::UdpConnected, Via::UdpUnconnected] {
                    let answer = testbed.agent(client)?.ask_long(via, to, DATAGRAM);
                    let answer =
                        answer.with_context(|| format!("{client} {via} {to}, served by {server}"))?;
                    ensure!(answer.server == server, "{} answered for {server}", answer.server);
                }
            }
        }
    }
    Ok(())
}

/// The link to the backend's pod has a smaller MTU than the client's path, so the pod's node must send ICMP errors.
fn narrow_hop(testbed: &mut Testbed) -> Result<()> {
    for (node, server) in [(1, "near"), (2, "far")] {
        testbed.set_backends(&[server])?;
        let node = testbed.world.topology.node(node);
        node.host.netns.ip(&format!("link set veth{server} mtu {NARROW}"))?;
        send_small_and_advertise_large(&node.pods[server].host.netns)?;
        for family in Family::BOTH {
            let (cluster_ip, node_port) = (testbed.cluster_ip(family), testbed.node_port(family));
            for (client, to) in [("pod", cluster_ip), ("pod", node_port), ("client", node_port)] {
                testbed.soon_answered_by(server, client, to)?;
                let done = testbed.agent(client)?.bulk(Via::Tcp, to, BULK);
                done.with_context(|| format!("{client} {to}, served by {server}"))?;
            }
        }
    }
    // Without an error, of a router or of svc, no packet was too large, and nothing has been tested.
    let (node, daemon) = testbed.world.on_node(1)?;
    wait::until_true("errors have been sent", COUNTERS_LIMIT, || {
        let status = daemon.ask_status(node)?;
        let counts = ["icmp_translated", "reject_too_big"].map(|name| status["counters"][name].as_u64());
        let count: u64 = counts.into_iter().flatten().sum();
        ensure!(count > 0, "{}", status["counters"]);
        Ok(true)
    })
}

/// The host end drops packets of the pod above the MTU without an error, so the server must know the MTU. Segments
/// leave one by one: a whole batch would pass the host end in any size, and hide a server that does not know the MTU.
fn send_small_and_advertise_large(pod: &Netns) -> Result<()> {
    pod.ip("link set eth0 gso_max_segs 1")?;
    for (family, option) in [(Family::V4, "-4"), (Family::V6, "-6")] {
        let routes = command::run(pod.command("ip")?.args([option, "route", "show"]))?;
        for route in routes.lines().map(str::trim) {
            pod.ip_of(family, &format!("route replace {route} mtu {NARROW} advmss {ADVERTISED}"))?;
        }
    }
    Ok(())
}
