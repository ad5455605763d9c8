//! Nodes that route by source.

use anyhow::Result;
use svc_tests::topology::{Between, Family, Options};

use crate::case::{Case, ClientOutcome, Row, Target, Way};
use crate::lab::Lab;

pub fn cases() -> Vec<Case> {
    let lost = |to, server| {
        // Without connection marks the control's reply follows the pod's rule.
        Row::answered("client", to, server).direct(ClientOutcome::Silence).nft(ClientOutcome::Silence)
    };
    vec![Case {
        options: Options { between: Between::OwnUplink, ..Options::default() },
        prepare: pod_of_another_card,
        also: |lab| {
            lab.edit("near", "type: NodePort\n", "type: NodePort\n  externalTrafficPolicy: Local\n")?;
            lab.soon(Way::Svc, &[Row::answered("client", Target::NodePort("near"), "near")])
        },
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
    }]
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
