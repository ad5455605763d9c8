//! Nodes that route by source, and nodes with several next hops.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use svc_tests::agent::{Probe, Via};
use svc_tests::command;
use svc_tests::manifests::{Backend, SERVER_PORT, Service};
use svc_tests::topology::{Addrs, Between, Family, Options, service};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::case::{Case, ClientOutcome, Row, Target, Way};
use crate::firewall::masquerades_through_stack;
use crate::lab::Lab;

pub fn cases() -> Vec<Case> {
    let lost = |to, server| {
        // Without connection marks the control's reply follows the pod's rule.
        Row::answered("client", to, server).direct(ClientOutcome::Silence).nft(ClientOutcome::Silence)
    };
    let options = Options { between: Between::OwnUplink, ..Options::default() };
    let several = Case {
        options,
        prepare: two_next_hops,
        each: Some(("in each family both next hops carry flows through the proxy", both_next_hops_are_used)),
        ..Case::new(
            "N2",
            "a route with two next hops spreads masqueraded flows by their ports, as the node's setting asks",
            vec![Row::answered("client", Target::NodePort("far"), "far")],
        )
    };
    let by_source = Case {
        options,
        prepare: pod_of_another_card,
        each: Some((
            "with the CNI's connection marks the control answers by the first card; svc answers without, with policy Local too",
            by_the_first_card,
        )),
        ..Case::new(
            "R06",
            "a pod whose rule sends it out by the second card answers NodePorts of the first (AWS VPC CNI)",
            vec![
                lost(Target::NodePort("near"), "near"),
                Row::answered("client", Target::NodePort("pod"), "pod"),
                Row::answered("client", Target::NodePort("far"), "far"),
                Row::answered("pod", Target::ClusterIp("near"), "near"),
                Row::answered("node1", Target::ClusterIp("near"), "near"),
            ],
        )
    };
    let second_gateway = Case {
        options,
        prepare: address_with_its_own_gateway,
        ..Case::new(
            "R07",
            "replies from an address with its own gateway leave by that gateway, also those of the node's own server",
            ["node1", "near", "far"]
                .map(|server| {
                    let service = if server == "node1" { "host" } else { server };
                    // Without connection marks the control's reply leaves by the first card.
                    Row::answered("client", Target::NodePortAt(service, SECOND), server)
                        .nft(ClientOutcome::NoAnswer)
                })
                .to_vec(),
        )
    };
    let no_route =
        Case {
            options,
            prepare: |lab| {
                address_with_its_own_gateway(lab)?;
                lab.world.topology.node(1).host.netns.ip(
                    "route replace unreachable default table 125\nroute replace unreachable ::/0 table 125",
                )
            },
            also: Some(("replies without a route are counted", |lab| {
                let daemon = lab.world.daemon(1)?;
                wait::until_true("drop_no_route is counted", CHANGE_LIMIT, || {
                    Ok(daemon.status()?["counters"]["drop_no_route"].as_u64() > Some(0))
                })
            })),
            ..Case::new(
                "R07",
                "a source rule whose table has no route loses its own connections alone",
                vec![
                    Row::always("client", Target::NodePortAt("far", SECOND), ClientOutcome::NoAnswer),
                    Row::always("client", Target::NodePortAt("near", SECOND), ClientOutcome::NoAnswer),
                    Row::answered("client", Target::NodePort("far"), "far"),
                    Row::answered("client", Target::NodePort("near"), "near"),
                    Row::answered("pod", Target::ClusterIp("far"), "far"),
                ],
            )
        };
    let by_mark = Case {
        options,
        prepare: |lab| {
            lab.forward_all()?;
            second_network(lab)?;
            mark_connections(lab)
        },
        also: Some(("masquerade goes through the stack", masquerades_through_stack)),
        ..Case::new(
            "R07",
            "connections of a second card whose packets a rule routes by their mark are answered by that card",
            ["node1", "near", "far"]
                .map(|server| {
                    let service = if server == "node1" { "host" } else { server };
                    // The control serves NodePorts at the first address alone.
                    Row::answered("client", Target::NodePortAt(service, SECOND), server)
                        .nft(ClientOutcome::Refusal)
                })
                .to_vec(),
        )
    };
    vec![by_source, several, second_gateway, no_route, by_mark]
}

/// Node1's address on its second card.
const SECOND: Addrs =
    Addrs { v4: Ipv4Addr::new(198, 51, 100, 1), v6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1) };

/// Only packets with the source [`SECOND`] are routed by the second network's gateway.
fn address_with_its_own_gateway(lab: &mut Lab) -> Result<()> {
    second_network(lab)?;
    let netns = &lab.world.topology.node(1).host.netns;
    Family::BOTH.into_iter().try_for_each(|family| {
        netns.ip_of(family, &format!("rule add from {} lookup 125 pref 1000", SECOND.of(family)))
    })
}

/// Only packets of connections that came by the second card are routed by the second network's gateway.
fn mark_connections(lab: &Lab) -> Result<()> {
    let netns = &lab.world.topology.node(1).host.netns;
    Family::BOTH
        .into_iter()
        .try_for_each(|family| netns.ip_of(family, "rule add fwmark 7 lookup 125 pref 1000"))?;
    netns.nft(
        "table inet marks {
            chain in {
                type filter hook prerouting priority mangle;
                iifname eth1 ct state new ct mark set 7
                ct direction reply meta mark set ct mark
            }
            chain out { type route hook output priority mangle; meta mark set ct mark; }
        }",
    )
}

/// The client is beyond the second network, where it is the gateway itself. Table 125 leads there.
fn second_network(lab: &mut Lab) -> Result<()> {
    let topology = &lab.world.topology;
    let (client, node) = (&topology.client.netns, topology.node(1));
    topology.lan().ip(&format!(
        "link add b-client type veth peer name eth1 netns {}\nlink set b-client master back up",
        client.name()
    ))?;
    client.ip(
        "link set lo up\nlink set eth1 up\naddr add 198.51.100.9/24 dev eth1\naddr add 2001:db8:2::9/64 dev eth1 nodad\n\
         addr add 203.0.113.9/32 dev lo\naddr add 2001:db8:9::9/128 dev lo nodad\n\
         route add 198.51.100.1/32 dev eth1 src 203.0.113.9\nroute add 2001:db8:2::1/128 dev eth1 src 2001:db8:9::9",
    )?;
    let netns = &node.host.netns;
    netns.sysctl(&[("net/ipv4/conf/all/rp_filter", "2")])?;
    netns.ip("route add default via 198.51.100.9 dev eth1 table 125\n\
         route add default via 2001:db8:2::9 dev eth1 table 125")?;
    let backend = Backend { name: "node1".into(), addrs: node.host.addrs, node: "node1".into() };
    let service = Service {
        name: "host".into(),
        cluster: service(13),
        node_port: 30083,
        external: None,
        affinity: None,
        backends: vec![backend],
    };
    lab.world.folder.write_service(&service)?;
    lab.services.push(service);
    Ok(())
}

/// Both networks lead to the pods of node2, which counts what comes by each.
fn two_next_hops(lab: &mut Lab) -> Result<()> {
    let [node1, node2] = [1, 2].map(|node| lab.world.topology.node(node));
    for node in [node1, node2] {
        // A reply may come by the other card.
        node.host.netns.sysctl(&[("net/ipv4/conf/all/rp_filter", "2")])?;
    }
    let netns = &node1.host.netns;
    netns.sysctl(&[
        ("net/ipv4/fib_multipath_hash_policy", "1"),
        ("net/ipv6/fib_multipath_hash_policy", "1"),
    ])?;
    let (pods, front, back) = (node2.pod_cidrs(), node2.host.addrs, node2.egress());
    netns.ip(&format!(
        "route replace {}/24 nexthop via {} dev eth0 nexthop via {} dev eth1\nroute del {v6}/64\n\
         route add {v6}/64 nexthop via {} dev eth0 nexthop via {} dev eth1",
        pods.v4,
        front.v4,
        back.v4,
        front.v6,
        back.v6,
        v6 = pods.v6
    ))?;
    let mut rules = String::from("table inet came {\n");
    let mut counting = String::new();
    for (family, card) in [("ipv4", "eth0"), ("ipv4", "eth1"), ("ipv6", "eth0"), ("ipv6", "eth1")] {
        rules += &format!("counter {family}_{card} {{ }}\n");
        counting += &format!(
            "meta nfproto {family} iifname {card} udp dport {SERVER_PORT} counter name {family}_{card}\n"
        );
    }
    rules += &format!("chain by {{ type filter hook prerouting priority -400;\n{counting}}}\n}}");
    node2.host.netns.nft(&rules)?;
    for family in Family::BOTH {
        for next in [front, back] {
            // On a busy machine a new neighbor needs a moment.
            let to = (next.of(family), SERVER_PORT).into();
            wait::until_true(&format!("node1 reaches {to}"), CHANGE_LIMIT, || {
                node1.host.agent.ask(Via::Tcp, to, 1).map(|_| true)
            })?;
        }
    }
    Ok(())
}

/// Each datagram comes from another port. The chance that all take one way is 1 in 2^31.
fn both_next_hops_are_used(lab: &mut Lab, way: Way) -> Result<()> {
    // Without a proxy the client's packets come to node2 by themselves.
    if way == Way::Direct {
        return Ok(());
    }
    let topology = &lab.world.topology;
    let node2 = &topology.node(2).host.netns;
    command::run(node2.command("nft")?.args(["reset", "counters", "table", "inet", "came"]))?;
    for family in Family::BOTH {
        let to = lab.address(Target::NodePort("far"), family)?;
        let probes = (0..32).map(|_| Probe { via: Via::UdpConnected, from: None, to: vec![to], tries: 1 });
        topology.client.agent.probe(probes.collect())?;
    }
    let shown = command::run(node2.command("nft")?.args(["list", "table", "inet", "came"]))?;
    ensure!(!shown.contains("packets 0 "), "one next hop is not used: {shown}");
    Ok(())
}

/// As the CNI does it: a table with the second card's gateway, and a rule for the pod's address. Inside the cluster the main
/// table applies.
fn pod_of_another_card(lab: &mut Lab) -> Result<()> {
    let topology = &lab.world.topology;
    let pod = topology.host("near")?.addrs;
    let netns = &topology.node(1).host.netns;
    netns.ip("route add default via 198.51.100.254 dev eth1 table 200\nroute add ::/0 dev eth1 table 200")?;
    for (family, cluster) in [(Family::V4, "10.0.0.0/8"), (Family::V6, "fd00::/8")] {
        let pod = pod.of(family);
        let to_cluster = format!("rule add from {pod} to {cluster} lookup main pref 1535");
        netns.ip_of(family, &format!("{to_cluster}\nrule add from {pod} lookup 200 pref 1536"))?;
    }
    Ok(())
}

/// The CNI marks connections that come in by the first card, and routes the pod's replies by that mark. Like policy
/// Local, the control does not masquerade what goes to a pod of the node.
fn by_the_first_card(lab: &mut Lab, way: Way) -> Result<()> {
    let rows = [Row::answered("client", Target::NodePort("near"), "near")];
    let node = lab.world.topology.node(1);
    match way {
        Way::Direct => Ok(()),
        Way::Svc => {
            lab.edit("near", "type: NodePort\n", "type: NodePort\n  externalTrafficPolicy: Local\n")?;
            lab.soon(way, &rows)
        }
        Way::Nft => {
            let pod = &node.pods.get("near").context("no pod `near`")?.interface;
            let netns = &node.host.netns;
            // The reverse path filter looks from the pod, which is routed by the second card.
            let loose = |value| netns.sysctl(&[("net/ipv4/conf/eth0/rp_filter", value)]);
            loose("2")?;
            netns.nft(&format!(
                "table inet aws {{
                    chain marks {{
                        type filter hook prerouting priority mangle;
                        iifname eth0 fib daddr type local ct mark set 0x80
                        iifname {pod} meta mark set ct mark
                    }}
                }}"
            ))?;
            for family in Family::BOTH {
                netns.ip_of(family, "rule add fwmark 0x80 lookup main pref 1024")?;
            }
            lab.soon(way, &rows)?;
            for family in Family::BOTH {
                netns.ip_of(family, "rule del pref 1024")?;
            }
            loose("1")?;
            netns.nft("delete table inet aws")
        }
    }
}
