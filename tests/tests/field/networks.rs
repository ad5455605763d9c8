//! Networks between the nodes: cards without an address, an overlay, packets at the end of their life.

use anyhow::Result;
use svc_tests::agent::Via;
use svc_tests::topology::{Between, Family, Options};

use crate::case::{Case, ClientOutcome, Row, Target};
use crate::lab::Lab;

/// Octets in each direction.
const BULK: usize = 1 << 20;

pub fn cases() -> Vec<Case> {
    let rows = || {
        let more = Row::answered("pod", Target::ClusterIp("far"), "far");
        Row::of_each_place().into_iter().chain([more]).collect()
    };
    vec![
        Case {
            prepare: unnumbered,
            ..Case::new(
                "R14",
                "a node whose address is on lo, with a card that has none, serves and masquerades (SEM-080)",
                rows(),
            )
        },
        Case {
            options: Options { between: Between::Vxlan, ..Options::default() },
            each: Some(("1 MiB goes each way", |lab, way| {
                for client in ["client", "pod"] {
                    for family in Family::BOTH {
                        let to = lab.dialled(way, Target::NodePort("far"), "far", family)?;
                        lab.world.topology.host(client)?.agent.bulk(Via::Tcp, to, BULK)?;
                    }
                }
                Ok(())
            })),
            ..Case::new("R30", "the other node's pods are behind a VXLAN as flannel makes it", rows())
        },
        Case {
            each: Some((
                "with a time to live of 1 the client gets the ICMP error, from both backends",
                |lab, way| {
                    let expired = ClientOutcome::Unreachable;
                    let rows = ["far", "near"].map(|server| {
                        let row = Row::answered("client", Target::NodePort(server), server);
                        row.direct(expired).nft(expired).svc(expired)
                    });
                    for node in &lab.world.topology.nodes {
                        // Every packet is answered, however many there are in a second.
                        let limits = [("net/ipv4/icmp_ratelimit", "0"), ("net/ipv6/icmp/ratelimit", "0")];
                        node.host.netns.sysctl(&limits)?;
                    }
                    let client = &lab.world.topology.client.netns;
                    client
                        .sysctl(&[("net/ipv4/ip_default_ttl", "1"), ("net/ipv6/conf/eth0/hop_limit", "1")])?;
                    let checked = lab.check_via(&[Via::Tcp], way, &rows);
                    client.sysctl(&[
                        ("net/ipv4/ip_default_ttl", "64"),
                        ("net/ipv6/conf/eth0/hop_limit", "64"),
                    ])?;
                    checked
                },
            )),
            ..Case::new(
                "R25",
                "the node says that a packet's time to live is exceeded (RFC 1812, RFC 4443)",
                vec![Row::answered("client", Target::NodePort("far"), "far")],
            )
        },
    ]
}

/// As on a node that tells its address to its router by BGP: the address is on lo, and each route names it as source.
fn unnumbered(lab: &mut Lab) -> Result<()> {
    let topology = &lab.world.topology;
    let node = topology.node(1);
    let (own, other, client) = (node.host.addrs, topology.node(2).host.addrs, topology.client.addrs);
    let netns = &node.host.netns;
    let pods = topology.node(2).pod_cidrs();
    netns.ip(&format!(
        "addr add {v4}/32 dev lo\naddr del {v4}/24 dev eth0\naddr add {v6}/128 dev lo nodad\naddr del {v6}/64 dev eth0",
        v4 = own.v4,
        v6 = own.v6
    ))?;
    // An IPv6 address is not announced by another interface than its own.
    netns.sysctl(&[("net/ipv6/conf/eth0/proxy_ndp", "1")])?;
    netns.ip(&format!("neigh add proxy {} dev eth0", own.v6))?;
    for family in Family::BOTH {
        let (own, other, client) = (own.of(family), other.of(family), client.of(family));
        let (pods, bits) = (pods.of(family), if family == Family::V4 { 24 } else { 64 });
        netns.ip_of(
            family,
            &format!(
                "route replace {other} dev eth0 src {own}\nroute replace {client} dev eth0 src {own}\n\
                 route replace {pods}/{bits} via {other} dev eth0 onlink src {own}\n\
                 route replace default via {client} dev eth0 onlink src {own}"
            ),
        )?;
    }
    Ok(())
}
