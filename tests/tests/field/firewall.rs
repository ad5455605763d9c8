//! Rules of the node's firewall.

use anyhow::Result;
use svc_tests::topology::Node;

use crate::case::{Case, Met, Row, Target};
use crate::lab::Lab;

pub fn cases() -> Vec<Case> {
    let silence = |row: Row| row.direct(Met::Silence).svc(Met::Silence);
    vec![
        Case {
            prepare: closed_forward,
            also: |lab| lab.complains(&["nftables strict forward", "--masquerade-local-backends"]),
            ..Case::new(
                "R20",
                "a FORWARD that accepts what conntrack translated drops what svc translated, and is named",
                vec![
                    silence(Row::answered("client", Target::NodePort("near"), "near")),
                    silence(Row::answered("pod", Target::ClusterIp("near"), "near")),
                    Row::answered("client", Target::NodePort("far"), "far"),
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
                    Row::answered("client", Target::NodePort("near"), "near").direct(Met::Silence),
                    Row::answered("client", Target::NodePort("far"), "far"),
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
                    .map(|server| Row::answered("client", Target::NodePort(server), server).nft(Met::Silence))
                    .to_vec(),
            )
        },
    ]
}

/// As firewalld and Docker leave FORWARD: closed, but for what is established and for what conntrack translated.
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
