//! Addresses of Services that the node also has.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use svc_tests::agent::{Probe, Tried, Via};
use svc_tests::command;
use svc_tests::manifests::{SERVER_PORT, SERVICE_PORT};
use svc_tests::topology::{Addrs, Family, Host, service};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::case::{Case, ClientOutcome, Row, Target, Way};
use crate::lab::Lab;

/// A ClusterIP of a deleted Service.
const STALE: Addrs = service(99);
/// Counters are read every 5 s.
const COUNT_LIMIT: Duration = Duration::from_secs(20);
/// An address that a router sends to the node.
const EXTERNAL: Addrs =
    Addrs { v4: Ipv4Addr::new(203, 0, 113, 7), v6: Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 7) };

pub fn cases() -> Vec<Case> {
    let refused = |to| Row::always("client", to, ClientOutcome::Refusal);
    let own = |client| Row::always(client, Target::ClusterIp("far"), ClientOutcome::Server("local"));
    vec![
        Case {
            prepare: node_local_cache,
            also: Some(("a complaint says so, and the annotation serves it anyway", |lab| {
                lab.complains(&["Service default/far", "10.96.0.11", "svc/serve-own-address"])?;
                lab.edit(
                    "far",
                    "{name: far,",
                    "{annotations: {svc/serve-own-address: \"true\"}, name: far,",
                )?;
                lab.soon(Way::Svc, &[Row::answered("pod", Target::ClusterIp("far"), "far")])
            })),
            ..Case::new(
                "R04",
                "a ClusterIP that the node has itself is served by the node (NodeLocal DNSCache)",
                vec![own("pod"), own("node1"), Row::answered("client", Target::NodePort("far"), "far")],
            )
        },
        Case {
            pod_sockets: true,
            prepare: node_local_cache,
            ..Case::new(
                "R04",
                "a ClusterIP that the node has itself is served by the node, also where sockets are translated",
                vec![own("pod"), own("node1")],
            )
        },
        Case {
            flags: &["--unknown-external-ports", "drop"],
            each: Some((
                "before svc, a packet to the unknown port is sent on by the node's route",
                unknown_port_is_forwarded,
            )),
            also: Some((
                "an unknown port of an external address is dropped and counted, and the Service's port is served",
                |lab| {
                    let list = |Addrs { v4, v6 }: Addrs| format!("externalIPs: [{v4}, \"{v6}\"]");
                    let own = lab.service("far")?.external.context("`far` has no external address")?;
                    lab.edit("far", &list(own), &list(EXTERNAL))?;
                    let node = lab.world.topology.node(1).host.addrs;
                    let client = &lab.world.topology.client;
                    for family in Family::BOTH {
                        let (to, via) = (EXTERNAL.of(family), node.of(family));
                        client.netns.ip(&format!("route replace {to} via {via}"))?;
                        let served = wait::until("the external address is served", CHANGE_LIMIT, || {
                            Ok(client.agent.ask(Via::Tcp, (to, SERVICE_PORT).into(), 1).ok())
                        })?;
                        ensure!(served.iter().all(|answer| answer.server == "far"), "{served:?}");
                        let probe = Probe {
                            via: Via::Tcp,
                            from: None,
                            to: vec![(to, SERVICE_PORT + 1).into()],
                            tries: 1,
                        };
                        reset_forwarded(lab)?;
                        let tried = client.agent.probe(vec![probe])?;
                        ensure!(tried == [[Tried::Nothing]], "an unknown port of {to}: {tried:?}");
                        ensure!(reset_forwarded(lab)? == 0, "the node has sent on packets to {to}");
                    }
                    let daemon = lab.world.daemon(1)?;
                    wait::until_true("status counts the dropped packets", COUNT_LIMIT, || {
                        Ok(daemon.status()?["counters"]["drop_unknown_port"].as_u64() >= Some(2))
                    })
                },
            )),
            ..Case::new(
                "R24",
                "a port of an external address that no Service has is dropped if so configured",
                vec![Row::answered("client", Target::NodePort("far"), "far")],
            )
        },
        Case {
            each: Some(("an address that no interface has is answered by the backend", on_no_interface)),
            ..Case::new(
                "R35",
                "a load balancer's address that is on no interface is served (MetalLB in layer 2)",
                vec![Row::answered("client", Target::NodePort("near"), "near")],
            )
        },
        Case {
            each: Some(("the node that has the address answers, also after a move", moves_between_nodes)),
            ..Case::new(
                "keepalived",
                "NodePorts are served at an address that moves from node to node (SEM-022)",
                vec![Row::answered("client", Target::NodePort("near"), "near")],
            )
        },
        Case {
            prepare: |lab| hold(lab, "kube-ipvs0", &[service(10), STALE]),
            also: Some(("a complaint names the interface", |lab| {
                lab.complains(&["kube-ipvs0", "kube-proxy --cleanup"])
            })),
            ..Case::new(
                "R29",
                "addresses on the kube-ipvs0 of another proxy are not the node's, and it is named",
                vec![
                    Row::answered("pod", Target::ClusterIp("near"), "near"),
                    Row::answered("node1", Target::ClusterIp("near"), "near"),
                    Row::answered("client", Target::NodePort("near"), "near"),
                    refused(Target::NodePortAt("near", STALE)),
                    refused(Target::NodePortAt("far", service(10))),
                ],
            )
        },
    ]
}

/// The defaults of node-local-dns: the ClusterIP on a dummy, a server there, and no conntrack.
fn node_local_cache(lab: &mut Lab) -> Result<()> {
    let address = lab.service("far")?.cluster;
    hold(lab, "nodelocaldns", &[address])?;
    let node = &lab.world.topology.node(1).host;
    for family in Family::BOTH {
        node.agent.serve_at("local", address.of(family), SERVICE_PORT)?;
    }
    let Addrs { v4, v6 } = address;
    node.netns.nft(&format!(
        "table inet nodelocaldns {{
            chain in {{ type filter hook prerouting priority raw; ip daddr {v4} notrack; ip6 daddr {v6} notrack; }}
            chain out {{
                type filter hook output priority raw;
                ip daddr {v4} notrack; ip saddr {v4} notrack; ip6 daddr {v6} notrack; ip6 saddr {v6} notrack;
            }}
        }}"
    ))
}

/// Adds addresses on an interface of their own on node1. This kernel may lack dummies; an ifb serves the same
/// purpose.
fn hold(lab: &Lab, interface: &str, addresses: &[Addrs]) -> Result<()> {
    let netns = &lab.world.topology.node(1).host.netns;
    netns.ip(&format!("link add {interface} type ifb\nlink set {interface} up"))?;
    addresses.iter().try_for_each(|Addrs { v4, v6 }: &Addrs| {
        let (v4, v6): (&Ipv4Addr, &Ipv6Addr) = (v4, v6);
        netns.ip(&format!("addr add {v4}/32 dev {interface}\naddr add {v6}/128 dev {interface} nodad"))
    })
}

/// An address that keepalived gives to one node of two.
const VIRTUAL: Addrs =
    Addrs { v4: Ipv4Addr::new(192, 0, 2, 70), v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x70) };

/// Without a proxy the client dials the node's own server.
fn moves_between_nodes(lab: &mut Lab, way: Way) -> Result<()> {
    let near = lab.service("near")?.backends[0].addrs;
    let (v4, v6) = (VIRTUAL.v4, VIRTUAL.v6);
    let number = if way == Way::Direct { SERVER_PORT } else { lab.service("near")?.node_port };
    for at in [1, 2, 1] {
        let topology = &lab.world.topology;
        let node = topology.node(at);
        node.host.netns.ip(&format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad"))?;
        if way == Way::Nft {
            control_at(&node.host, VIRTUAL, number, near)?;
        }
        // keepalived announces the address.
        topology.client.netns.ip("neigh flush dev eth0")?;
        let server = if way == Way::Direct { node.name() } else { "near" };
        for family in Family::BOTH {
            let to = (VIRTUAL.of(family), number).into();
            let answers = wait::until(&format!("{to} is answered at {}", node.name()), CHANGE_LIMIT, || {
                Ok(topology.client.agent.ask(Via::Tcp, to, 1).ok())
            })?;
            ensure!(answers.iter().all(|answer| answer.server == server), "{to}: {answers:?}");
        }
        if way == Way::Nft {
            node.host.netns.nft("delete table inet control_at")?;
        }
        node.host.netns.ip(&format!("addr del {v4}/24 dev eth0\naddr del {v6}/64 dev eth0"))?;
    }
    Ok(())
}

/// The control at another address of a node: DNAT to one backend, masqueraded as by kube-proxy.
fn control_at(node: &Host, at: Addrs, port: u16, backend: Addrs) -> Result<()> {
    let Addrs { v4, v6 } = at;
    node.netns.nft(&format!(
        "table inet control_at {{
            chain in {{
                type nat hook prerouting priority dstnat;
                ip daddr {v4} tcp dport {port} dnat ip to {}:{SERVER_PORT}
                ip6 daddr {v6} tcp dport {port} dnat ip6 to [{}]:{SERVER_PORT}
            }}
            chain out {{
                type nat hook postrouting priority 80;
                ct status dnat ct original ip daddr {v4} masquerade
                ct status dnat ct original ip6 daddr {v6} masquerade
            }}
        }}",
        backend.v4, backend.v6
    ))
}

/// The client's route to [`EXTERNAL`] leads to node1, as after MetalLB's announcement. Without a proxy the rows are all.
fn on_no_interface(lab: &mut Lab, way: Way) -> Result<()> {
    let (topology, near) = (&lab.world.topology, lab.service("near")?.backends[0].addrs);
    let (node, client) = (&topology.node(1).host, &topology.client);
    match way {
        Way::Direct => return Ok(()),
        Way::Nft => control_at(node, EXTERNAL, SERVICE_PORT, near)?,
        Way::Svc => {
            let status = format!(
                "status: {{loadBalancer: {{ingress: [{{ip: {}}}, {{ip: '{}'}}]}}}}\nspec:\n  type: LoadBalancer\n",
                EXTERNAL.v4, EXTERNAL.v6
            );
            lab.edit("near", "spec:\n  type: NodePort\n", &status)?;
        }
    }
    for family in Family::BOTH {
        let (to, via) = (EXTERNAL.of(family), node.addrs.of(family));
        client.netns.ip(&format!("route replace {to} via {via}"))?;
        let served = wait::until("the address is served", CHANGE_LIMIT, || {
            Ok(client.agent.ask(Via::Tcp, (to, SERVICE_PORT).into(), 1).ok())
        })?;
        ensure!(served.iter().all(|answer| answer.server == "near"), "{to}: {served:?}");
    }
    if way == Way::Nft { node.netns.nft("delete table inet control_at") } else { Ok(()) }
}

/// Counts the packets to [`EXTERNAL`] that node1 sends on: its default route is where such packets come from.
fn unknown_port_is_forwarded(lab: &mut Lab, way: Way) -> Result<()> {
    let (node, client) = (&lab.world.topology.node(1).host, &lab.world.topology.client);
    if way == Way::Svc {
        return Ok(());
    }
    if way == Way::Direct {
        let (v4, v6) = (EXTERNAL.v4, EXTERNAL.v6);
        // Node1 tells the client that its own router is nearer.
        client.netns.sysctl(&[
            ("net/ipv4/conf/all/accept_redirects", "0"),
            ("net/ipv4/conf/eth0/accept_redirects", "0"),
            ("net/ipv6/conf/all/accept_redirects", "0"),
            ("net/ipv6/conf/eth0/accept_redirects", "0"),
        ])?;
        node.netns.nft(&format!(
            "table inet sent_on {{
                counter sent {{ }}
                chain on {{
                    type filter hook forward priority -10;
                    ip daddr {v4} counter name sent
                    ip6 daddr {v6} counter name sent
                }}
            }}"
        ))?;
    }
    for family in Family::BOTH {
        let to = EXTERNAL.of(family);
        client.netns.ip(&format!("route replace {to} via {}", node.addrs.of(family)))?;
        reset_forwarded(lab)?;
        let probe = Probe { via: Via::Tcp, from: None, to: vec![(to, SERVICE_PORT + 1).into()], tries: 1 };
        let tried = client.agent.probe(vec![probe])?;
        ensure!(!matches!(tried[0][0], Tried::Answered(_)), "an unknown port of {to}: {tried:?}");
        ensure!(reset_forwarded(lab)? > 0, "the node has sent on no packet to {to}");
    }
    Ok(())
}

/// The packets sent on since the last call.
fn reset_forwarded(lab: &Lab) -> Result<u64> {
    let mut nft = lab.world.topology.node(1).host.netns.command("nft")?;
    let shown = command::run(nft.args(["reset", "counters", "table", "inet", "sent_on"]))?;
    let (_, after) = shown.rsplit_once("packets ").context("no counter")?;
    Ok(after.split_whitespace().next().context("no count")?.parse()?)
}
