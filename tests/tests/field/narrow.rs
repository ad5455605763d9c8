//! Paths with a smaller MTU than their ends know.

use anyhow::{Context, Result};
use svc_tests::agent::Via;
use svc_tests::topology::{Between, Family, Options};

use crate::case::{Case, Row, Target, Way};
use crate::lab::Lab;

/// MTU of the narrow path; IPv6 requires at least 1,280.
const NARROW: u32 = 1_300;
/// Three fragments on the client's link.
const DATAGRAM: usize = 4_000;
/// Octets in each direction.
const BULK: usize = 1 << 18;

pub fn cases() -> Vec<Case> {
    let rows = || {
        vec![
            Row::answered("client", Target::NodePort("far"), "far"),
            Row::answered("pod", Target::NodePort("far"), "far"),
        ]
    };
    vec![
        Case {
            options: Options { between: Between::OwnUplink, ..Options::default() },
            prepare: |lab| {
                narrow(lab, 1, "eth1")?;
                narrow(lab, 2, "eth1")?;
                open_forward(lab)
            },
            each: Some(("datagrams of 4,000 octets are answered", |lab, way| {
                for client in ["client", "pod"] {
                    let to = lab.dialled(way, Target::NodePort("far"), "far", Family::V4)?;
                    let agent = &lab.world.topology.host(client)?.agent;
                    for via in [Via::UdpConnected, Via::UdpUnconnected] {
                        agent
                            .ask_long(via, to, DATAGRAM)
                            .with_context(|| format!("{client}, {via}, {DATAGRAM} octets"))?;
                    }
                }
                Ok(())
            })),
            ..Case::new("R26", "fragments that do not fit are fragmented again on their way out", rows())
        },
        Case {
            prepare: |lab| narrow_routes(lab, "replace", 254),
            each: Some(("through the proxy, 256 KiB goes each way", bulk_through_proxy)),
            ..Case::new("Y3", "senders get ICMP errors with the MTU of the node's own route", rows())
        },
        Case {
            prepare: |lab| {
                narrow_routes(lab, "add", 126)?;
                let netns = &lab.world.topology.node(1).host.netns;
                let rule = "rule add from all lookup 126 pref 1000";
                Family::BOTH.into_iter().try_for_each(|family| netns.ip_of(family, rule))
            },
            each: Some(("through the proxy, 256 KiB goes each way", bulk_through_proxy)),
            ..Case::new("Y3", "the MTU of a route counts in every table", rows())
        },
    ]
}

/// Node1's routes to the pods of node2, whose card is as narrow, in this table.
fn narrow_routes(lab: &Lab, change: &str, table: u8) -> Result<()> {
    narrow(lab, 2, "eth0")?;
    open_forward(lab)?;
    let far = lab.world.topology.node(2);
    let (pods, via) = (far.pod_cidrs(), far.host.addrs);
    lab.world.topology.node(1).host.netns.ip(&format!(
        "route {change} {}/24 via {} mtu {NARROW} table {table}\nroute {change} {}/64 via {} mtu {NARROW} table {table}",
        pods.v4, via.v4, pods.v6, via.v6
    ))
}

fn bulk_through_proxy(lab: &mut Lab, way: Way) -> Result<()> {
    // Without a proxy the client's packets do not pass node1, whose route is narrow.
    if way == Way::Direct {
        return Ok(());
    }
    for family in Family::BOTH {
        let to = lab.dialled(way, Target::NodePort("far"), "far", family)?;
        for client in ["client", "pod"] {
            let agent = &lab.world.topology.host(client)?.agent;
            agent.bulk(Via::Tcp, to, BULK).with_context(|| format!("{client} {to}"))?;
        }
    }
    Ok(())
}

fn narrow(lab: &Lab, node: usize, interface: &str) -> Result<()> {
    lab.world.topology.node(node).host.netns.ip(&format!("link set {interface} mtu {NARROW}"))
}

/// Opens FORWARD: svc sends packets of a narrow route through the stack only if FORWARD does not drop them.
fn open_forward(lab: &Lab) -> Result<()> {
    lab.world.topology.node(1).host.netns.nft("add chain inet strict forward { policy accept; }")
}
