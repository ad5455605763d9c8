//! The Node object.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use svc_tests::topology::Addrs;
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::case::{Case, ClientOutcome, Row, Target, Way};
use crate::lab::Lab;

/// The InternalIP of node1, which is not the first address of its uplink.
const INTERNAL: Addrs =
    Addrs { v4: Ipv4Addr::new(192, 0, 2, 101), v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x101) };

pub fn cases() -> Vec<Case> {
    vec![Case {
        flags: &["--nodeport-addresses", "primary", "--detect-local-mode", "node-cidr"],
        prepare: |lab| {
            let node = lab.world.topology.node(1);
            let (own, Addrs { v4, v6 }) = (node.host.addrs, INTERNAL);
            node.host.netns.ip(&format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad"))?;
            let yaml = std::fs::read_to_string(lab.world.folder.path().join("nodes.yaml"))?;
            let yaml = yaml.replace(&format!("address: {}}}", own.v4), &format!("address: {v4}}}"));
            let yaml = yaml.replace(&format!("address: \"{}\"", own.v6), &format!("address: \"{v6}\""));
            lab.world.folder.write("nodes.yaml", &yaml)
        },
        each: Some(("the rows hold after the Node is deleted", after_its_deletion)),
        ..Case::new(
            "R33",
            "a Node object that is deleted leaves its addresses and pod CIDRs in force",
            rows(),
        )
    }]
}

fn rows() -> Vec<Row> {
    vec![
        // The control's rules use the node's first address.
        Row::answered("client", Target::NodePortAt("near", INTERNAL), "near").nft(ClientOutcome::Refusal),
        Row::always("client", Target::NodePort("near"), ClientOutcome::Refusal)
            .nft(ClientOutcome::Server("near")),
        Row::answered("pod", Target::ClusterIp("pod"), "pod"),
    ]
}

/// The manifest is back afterwards, for the next variant.
fn after_its_deletion(lab: &mut Lab, way: Way) -> Result<()> {
    let manifest = std::fs::read_to_string(lab.world.folder.path().join("nodes.yaml"))?;
    let before = if way == Way::Svc { generation(lab)? } else { 0 };
    lab.world.folder.remove("nodes.yaml")?;
    if way == Way::Svc {
        wait::until_true("the deletion is in force", CHANGE_LIMIT, || {
            let now = generation(lab)?;
            ensure!(now > before, "generation {now}");
            Ok(true)
        })?;
    }
    lab.check(way, &rows())?;
    lab.world.folder.write("nodes.yaml", &manifest)
}

fn generation(lab: &mut Lab) -> Result<u64> {
    Ok(lab.world.daemon(1)?.status()?["generation"].as_u64().unwrap_or_default())
}
