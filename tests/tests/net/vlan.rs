//! A VLAN over interfaces that also carry untagged frames. svc runs on both, and every packet is translated on
//! exactly one of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use svc_tests::agent::Via;
use svc_tests::topology::{Family, missing_kind};

use crate::trunk::{
    INTERFACE, Tag, WireNetwork, frontends, hooks, node_port, prioritised, put_tags, route_between_nodes,
    trunk,
};
use svc_tests::testbed::{Testbed, scenario_unless};

/// Octets in each direction: some twenty full segments, which even a busy emulated machine transfers in time.
const BULK: usize = 1 << 15;
/// Four fragments in each direction.
const DATAGRAM: usize = 5_000;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for xdp in ["off", "generic", "native"] {
        trials.push(scenario_unless(
            || missing_kind("vlan"),
            &format!("XDP {xdp}: a VLAN and the untagged network below it are both served, each by itself"),
            move |test| trunk(&format!("{test} {xdp}"), xdp),
            move |testbed| {
                xdp_stands_where_it_sees_tags(testbed, xdp)?;
                [Tag::Beside, Tag::InFrame].into_iter().try_for_each(|tag| {
                    put_tags(testbed, tag)?;
                    served(testbed).with_context(|| format!("tags {tag:?}"))
                })
            },
        ));
    }
    trials.push(scenario_unless(
        || missing_kind("vlan"),
        "a client with priority tags and no VLAN is served, and its tags are removed",
        prioritised,
        |testbed| {
            ["near", "node1", "far", "node2"].into_iter().try_for_each(|server| {
                testbed.set_backends(&[server])?;
                testbed.soon_answered_by(server, "client", testbed.node_port(Family::V4))?;
                ask(testbed, server, WireNetwork::Untagged, &mut Asked::default())
            })
        },
    ));
    trials
}

fn served(testbed: &mut Testbed) -> Result<()> {
    for (server, between_nodes) in [
        ("near", WireNetwork::Untagged),
        ("node1", WireNetwork::Untagged),
        ("far", WireNetwork::Untagged),
        ("far", WireNetwork::Vlan),
        ("node2", WireNetwork::Untagged),
    ] {
        route_between_nodes(testbed, between_nodes)?;
        testbed.set_backends(&[server])?;
        let wanted = node_port(testbed, WireNetwork::Vlan, Family::V4);
        testbed.soon_answered_by(server, "client", wanted)?;
        let before = counted(testbed)?;
        let mut asked = Asked::default();
        for network in [WireNetwork::Vlan, WireNetwork::Untagged] {
            ask(testbed, server, network, &mut asked)
                .with_context(|| format!("client by {network:?}, nodes by {between_nodes:?}"))?;
        }
        asked.counted_since(&before, &counted(testbed)?)?;
    }
    for (server, between_nodes) in [("near", WireNetwork::Untagged), ("far", WireNetwork::Vlan)] {
        route_between_nodes(testbed, between_nodes)?;
        testbed.set_backends(&[server])?;
        full_frames(testbed, server)?;
    }
    Ok(())
}

/// Native XDP runs on the card. Generic XDP does not see the tags, so it would forward frames with them.
fn xdp_stands_where_it_sees_tags(testbed: &mut Testbed, xdp: &str) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    let status = daemon.ask_status(node)?;
    let has =
        |interface: &str, hook: &str| Ok::<_, anyhow::Error>(hooks(&status, interface)?.contains(&hook));
    let (below, above) = (has("eth0", &format!("xdp/{xdp}"))?, has(INTERFACE, &format!("xdp/{xdp}"))?);
    ensure!((below, above) == (xdp == "native", xdp == "generic"), "{}", status["interfaces"]);
    let is_well = |i: &Value| i["errors"].as_array().is_some_and(Vec::is_empty);
    ensure!(status["interfaces"].as_array().is_some_and(|all| all.iter().all(is_well)), "{status}");
    Ok(())
}

fn ask(testbed: &Testbed, server: &str, network: WireNetwork, asked: &mut Asked) -> Result<()> {
    for to in frontends(testbed, network)? {
        for via in [Via::Tcp, Via::UdpConnected] {
            testbed.answered_by(server, "client", via, to)?;
            asked.flows += 1;
            asked.datagrams += if via == Via::Tcp { 0 } else { 2 };
        }
    }
    Ok(())
}

/// The VLAN passes frames as large as the untagged network's.
fn full_frames(testbed: &Testbed, server: &str) -> Result<()> {
    for to in frontends(testbed, WireNetwork::Vlan)? {
        testbed.soon_answered_by(server, "client", to)?;
        let client = testbed.agent("client")?;
        client.bulk(Via::Tcp, to, BULK).with_context(|| format!("{to}, served by {server}"))?;
        let answer = client.ask_long(Via::UdpUnconnected, to, DATAGRAM);
        let answer = answer.with_context(|| format!("{to}, served by {server}"))?;
        ensure!(answer.server == server, "{} answered for {server}", answer.server);
    }
    Ok(())
}

/// Number of requests: flows of either protocol, and datagrams in both directions.
#[derive(Debug, Default, Eq, PartialEq)]
struct Asked {
    flows: u64,
    datagrams: u64,
}

impl Asked {
    /// If svc translated a packet twice, it would count the packet twice. If svc did not translate it, it would not
    /// count it.
    fn counted_since(
        &self,
        before: &BTreeMap<String, [u64; 2]>,
        after: &BTreeMap<String, [u64; 2]>,
    ) -> Result<()> {
        let mut counted = Self::default();
        for (service, [flows, packets]) in after {
            let [flows_before, packets_before] = before.get(service).unwrap_or(&[0; 2]);
            counted.flows += flows - flows_before;
            counted.datagrams += if service.contains("udp") { packets - packets_before } else { 0 };
        }
        ensure!(*self == counted, "asked {self:?}, counted {counted:?}");
        Ok(())
    }
}

/// Flows and packets of every service port at node1.
fn counted(testbed: &mut Testbed) -> Result<BTreeMap<String, [u64; 2]>> {
    let (node, daemon) = testbed.world.on_node(1)?;
    let rows = daemon.get(node, "services")?;
    let rows = rows.as_array().context("a list of frontends")?;
    let count = |row: &Value, what: &str| row[what].as_u64().with_context(|| format!("no {what} in {row}"));
    rows.iter()
        .map(|row| {
            let service = row["service"].as_str().context("a service without a name")?.to_owned();
            Ok((service, [count(row, "flows")?, count(row, "packets")?]))
        })
        .collect()
}
