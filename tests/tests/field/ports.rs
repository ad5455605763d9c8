//! Source ports that the node itself uses.

use crate::case::{Case, Row, Target};

pub fn cases() -> Vec<Case> {
    let rows = || {
        vec![
            Row::answered("client", Target::NodePort("far"), "far"),
            Row::answered("client", Target::NodePort("near"), "near"),
            Row::answered("pod", Target::NodePort("far"), "far"),
            Row::answered("pod", Target::NodePort("pod"), "pod"),
            Row::answered("pod", Target::ClusterIp("pod"), "pod"),
            Row::answered("node1", Target::ClusterIp("far"), "far"),
        ]
    };
    vec![
        Case {
            prepare: |lab| {
                let setting = ("net/ipv4/ip_local_port_range", "1024 65535");
                lab.world.topology.nodes.iter().try_for_each(|node| node.host.netns.sysctl(&[setting]))
            },
            also: |lab| lab.complains(&["net/ipv4/ip_local_port_range", "1024-65535", "32768-65535"]),
            ..Case::new("N1", "a node that uses every port itself still masquerades, and says so", rows())
        },
        Case {
            prepare: |lab| {
                let settings = [
                    ("net/ipv4/ip_local_port_range", "1024 65535"),
                    ("net/ipv4/ip_local_reserved_ports", "50000-59999"),
                ];
                lab.world.topology.nodes.iter().try_for_each(|node| node.host.netns.sysctl(&settings))
            },
            also: |lab| {
                let complaints = format!("{:?}", lab.world.daemon(1)?.complaints()?);
                anyhow::ensure!(!complaints.contains("ip_local_port_range"), "it complains of {complaints}");
                Ok(())
            },
            ..Case::new("N1", "ports that the node reserves are the masquerade's alone", rows())
        },
    ]
}
