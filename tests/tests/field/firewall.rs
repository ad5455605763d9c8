//! The node's firewall rules and IPsec policies.

use anyhow::{Result, ensure};
use svc_tests::agent::Via;
use svc_tests::manifests::SERVER_PORT;
use svc_tests::topology::{Addrs, Family, Node, Options, Shape};

use crate::case::{Case, ClientOutcome, Row, Target};
use crate::lab::Lab;

pub fn cases() -> Vec<Case> {
    let silence = |row: Row| row.direct(ClientOutcome::Silence).svc(ClientOutcome::Silence);
    let policy = |shape, sentence| Case {
        options: Options { shape, ..Options::default() },
        prepare: |lab| network_policy(lab, "KUBE-POD-FW-POD"),
        also: Some(("masquerade goes through the stack", masquerades_through_stack)),
        ..Case::new("R09", sentence, of_policy())
    };
    vec![
        Case {
            prepare: sidecar,
            each: Some(("TCP to ClusterIPs reaches the pod's sidecar", |lab, _| {
                for (family, service) in Family::BOTH.into_iter().flat_map(|f| [(f, "near"), (f, "far")]) {
                    let to = lab.address(Target::ClusterIp(service), family)?;
                    let answers = lab.world.topology.host("pod")?.agent.ask(Via::Tcp, to, 1)?;
                    let server = answers.first().map(|answer| answer.server.as_str());
                    ensure!(server == Some("sidecar"), "{to}, dialled by the pod, was {server:?}");
                }
                Ok(())
            })),
            ..Case::new(
                "R05",
                "rules of a pod's own network namespace see the ClusterIP (a mesh's sidecar)",
                vec![Row::answered("near", Target::ClusterIp("far"), "far")],
            )
        },
        policy(Shape::Routed, "a NetworkPolicy in FORWARD holds through every address of a Service"),
        Case {
            pod_sockets: true,
            ..policy(Shape::Routed, "a NetworkPolicy in FORWARD holds where the socket hooks serve pods")
        },
        policy(
            Shape::Bridged,
            "a NetworkPolicy in FORWARD holds through a Service between pods of one bridge",
        ),
        Case {
            prepare: |lab| {
                lab.forward_all()?;
                network_policy(lab, "rules-of-the-house")
            },
            also: Some(("masquerade goes through the stack", masquerades_through_stack)),
            ..Case::new(
                "R09",
                "rules in FORWARD that drop hold also in a chain with an unknown name",
                of_policy(),
            )
        },
        Case {
            prepare: |lab| {
                lab.world.topology.node_mut(1).bridge_card()?;
                lab.filter_no_bridge()?;
                network_policy(lab, "KUBE-POD-FW-POD")
            },
            also: Some(("masquerade goes through the stack", masquerades_through_stack)),
            ..Case::new(
                "R12",
                "a NetworkPolicy in FORWARD holds on a node whose network card is in a bridge, if netfilter does not see \
                 bridged packets",
                of_policy(),
            )
        },
        Case {
            prepare: |lab| {
                lab.world.topology.node_mut(1).bridge_card()?;
                network_policy(lab, "KUBE-POD-FW-POD")
            },
            also: Some(("a complaint names the setting", |lab| {
                lab.complains(&["net/bridge/bridge-nf-call-iptables"])
            })),
            ..Case::new(
                "R12",
                "beside policies in FORWARD a network card in a bridge loses NodePorts if netfilter sees bridged packets, and \
                 a complaint names the setting",
                vec![
                    Row::answered("client", Target::NodePort("near"), "near").svc(ClientOutcome::Silence),
                    Row::answered("near", Target::ClusterIp("pod"), "pod"),
                ],
            )
        },
        Case {
            prepare: closed_forward,
            also: Some(("a complaint names the chain", |lab| {
                lab.complains(&["nftables strict forward", "accept what is forwarded to pods"])
            })),
            ..Case::new(
                "R20",
                "a FORWARD chain that accepts packets translated by conntrack drops no NodePorts, but what pods send to ClusterIPs, and \
                 a complaint names it",
                vec![
                    Row::answered("client", Target::NodePort("near"), "near").direct(ClientOutcome::Silence),
                    silence(Row::answered("pod", Target::ClusterIp("near"), "near")),
                    silence(Row::answered("pod", Target::ClusterIp("far"), "far")),
                    Row::answered("client", Target::NodePort("far"), "far"),
                ],
            )
        },
        Case {
            prepare: |lab| {
                closed_forward(lab)?;
                lab.world.topology.node(1).host.netns.nft(
                    "add rule inet strict forward ip daddr 10.244.0.0/16 accept
                     add rule inet strict forward ip6 daddr fd00:10:244::/48 accept",
                )
            },
            ..Case::new(
                "R20",
                "a rule that accepts packets to pods opens a closed FORWARD, as it does without Services",
                vec![
                    Row::answered("client", Target::NodePort("near"), "near"),
                    Row::answered("client", Target::NodePort("far"), "far"),
                    Row::answered("pod", Target::ClusterIp("near"), "near"),
                    Row::answered("pod", Target::ClusterIp("far"), "far"),
                ],
            )
        },
        Case {
            flags: &["--masquerade-local-backends"],
            prepare: closed_forward,
            ..Case::new(
                "R20",
                "with --masquerade-local-backends a closed FORWARD does not stop NodePorts, as with kube-proxy",
                vec![
                    Row::answered("client", Target::NodePort("near"), "near").direct(ClientOutcome::Silence),
                    Row::answered("client", Target::NodePort("far"), "far"),
                    silence(Row::answered("pod", Target::ClusterIp("near"), "near")),
                    silence(Row::answered("pod", Target::ClusterIp("far"), "far")),
                ],
            )
        },
        Case {
            prepare: |lab| {
                lab.world.topology.node(1).host.netns.nft(
                    "table inet fw {
                        chain p { type filter hook prerouting priority -150; meta l4proto { tcp, udp } th dport 30080-30081 drop; }
                    }",
                )
            },
            ..Case::new(
                "R10",
                "a rule before DNAT that closes NodePorts does not close those of svc",
                ["near", "far"]
                    .map(|server| {
                        Row::answered("client", Target::NodePort(server), server).nft(ClientOutcome::Silence)
                    })
                    .to_vec(),
            )
        },
        Case {
            prepare: |lab| block_by_ipsec(lab, "192.0.2.1/32", "2001:db8:1::1/128"),
            also: Some(("a complaint names the policies", |lab| lab.complains(&["ip xfrm policy"]))),
            ..Case::new(
                "R11",
                "an IPsec policy applies to packets that the stack sends and not to redirected ones",
                vec![
                    Row::answered("client", Target::NodePort("far"), "far").nft(ClientOutcome::Silence),
                    Row::answered("node1", Target::ClusterIp("far"), "far")
                        .direct(ClientOutcome::Silence)
                        .nft(ClientOutcome::Silence)
                        .svc(ClientOutcome::Silence),
                ],
            )
        },
        Case {
            flags: &["--masquerade-through-stack", "always"],
            prepare: |lab| block_by_ipsec(lab, "192.0.2.1/32", "2001:db8:1::1/128"),
            ..Case::new(
                "R11",
                "through the stack a masqueraded packet meets the policies with its client's address, not with the node's",
                vec![Row::answered("client", Target::NodePort("far"), "far").nft(ClientOutcome::Silence)],
            )
        },
        Case {
            flags: &["--masquerade-through-stack", "always"],
            prepare: |lab| block_by_ipsec(lab, "0.0.0.0/0", "::/0"),
            ..Case::new(
                "R11",
                "through the stack an IPsec policy for all sources applies to masqueraded packets",
                vec![
                    Row::answered("client", Target::NodePort("far"), "far")
                        .nft(ClientOutcome::Silence)
                        .svc(ClientOutcome::Silence),
                ],
            )
        },
    ]
}

/// The pod may open no connection, and everybody else may.
fn of_policy() -> Vec<Row> {
    let refused =
        |row: Row| row.direct(ClientOutcome::Silence).nft(ClientOutcome::Silence).svc(ClientOutcome::Silence);
    vec![
        refused(Row::answered("pod", Target::NodePort("far"), "far")),
        refused(Row::answered("pod", Target::NodePort("near"), "near")),
        refused(Row::answered("pod", Target::External("far"), "far")),
        refused(Row::answered("pod", Target::ClusterIp("far"), "far")),
        refused(Row::answered("pod", Target::ClusterIp("near"), "near")),
        Row::answered("near", Target::NodePort("far"), "far"),
        Row::answered("near", Target::ClusterIp("pod"), "pod"),
        Row::answered("client", Target::NodePort("far"), "far"),
        Row::answered("client", Target::NodePort("near"), "near"),
        Row::answered("client", Target::External("far"), "far"),
        Row::answered("client", Target::External("near"), "near"),
        Row::answered("node1", Target::ClusterIp("far"), "far"),
    ]
}

pub fn masquerades_through_stack(lab: &mut Lab) -> Result<()> {
    let masquerade = lab.world.daemon(1)?.status()?["masquerade"].to_string();
    ensure!(masquerade.contains("through the stack"), "masquerade goes {masquerade}");
    Ok(())
}

/// kube-router's rules if `pod` may send nothing: its chains accept established connections and drop the rest.
fn network_policy(lab: &Lab, chain: &str) -> Result<()> {
    let Addrs { v4, v6 } = lab.world.topology.host("pod")?.addrs;
    lab.world.topology.node(1).host.netns.nft(&format!(
        "table inet filter {{
            chain {chain} {{ ct state established,related accept; drop; }}
            chain FORWARD {{
                type filter hook forward priority 0; policy accept;
                meta l4proto != {{ tcp, udp }} accept
                ip saddr {v4} ip daddr != {v4} jump {chain}
                ip6 saddr {v6} ip6 daddr != {v6} jump {chain}
            }}
        }}"
    ))
}

/// FORWARD as firewalld and Docker leave it: policy drop, except for established connections and those translated by
/// conntrack.
fn closed_forward(lab: &mut Lab) -> Result<()> {
    let close = |node: &Node| {
        node.host.netns.nft(
            "flush chain inet strict forward
             add rule inet strict forward icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
             add rule inet strict forward ct state established,related accept
             add rule inet strict forward ct status dnat accept",
        )
    };
    close(lab.world.topology.node(1))
}

/// As an init container of a mesh does it: the pod's own rules send what goes to a Service to a proxy in the pod.
fn sidecar(lab: &mut Lab) -> Result<()> {
    const PROXY: u16 = 15001;
    let Addrs { v4: near_v4, v6: near_v6 } = lab.service("near")?.cluster;
    let Addrs { v4: far_v4, v6: far_v6 } = lab.service("far")?.cluster;
    let pod = lab.world.topology.host("pod")?;
    pod.agent.serve_as("sidecar", PROXY)?;
    pod.netns.nft(&format!(
        "table inet mesh {{
            chain out {{
                type nat hook output priority -100;
                ip daddr {{ {near_v4}, {far_v4} }} meta l4proto tcp redirect to :{PROXY}
                ip6 daddr {{ {near_v6}, {far_v6} }} meta l4proto tcp redirect to :{PROXY}
            }}
        }}"
    ))
}

/// Blocks what leaves node1 for the pods of node2 from these sources of each family.
fn block_by_ipsec(lab: &mut Lab, v4: &str, v6: &str) -> Result<()> {
    let (node, far) = (lab.world.topology.node(1), lab.world.topology.node(2).pod_cidrs());
    // While the neighbor is unresolved the kernel itself sends redirected packets, and then checks the policies.
    for family in Family::BOTH {
        let other = lab.world.topology.node(2).host.addrs.of(family);
        node.host.agent.ask(Via::Tcp, (other, SERVER_PORT).into(), 1)?;
    }
    node.host.netns.ip(&format!(
        "xfrm policy add src {v4} dst {}/24 dir out action block\nxfrm policy add src {v6} dst {}/64 dir out action block",
        far.v4, far.v6
    ))
}
