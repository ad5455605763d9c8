//! Configuration of the CNI plugins: pods' links and addresses.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::addresses::{self, POD_CIDRS};
use crate::cluster::args::Cni;

/// First pod address in a node's range: after the gateway.
const FIRST: u8 = 2;
const LAST: u8 = 254;

pub(super) fn configure(dir: &Path, node: u8, cni: Cni, masquerade: bool) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let path = dir.join("10-pods.conflist");
    fs::write(&path, format!("{:#}\n", config(node, cni, masquerade)))
        .with_context(|| format!("write {}", path.display()))
}

fn config(node: u8, cni: Cni, masquerade: bool) -> Value {
    let mut link = match cni {
        Cni::Bridge => json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true}),
        Cni::Ptp => json!({"type": "ptp"}),
    };
    link["ipMasq"] = masquerade.into();
    link["ipMasqBackend"] = "nftables".into();
    link["mtu"] = 1500.into();
    link["ipam"] = json!({
        "type": "host-local",
        "dataDir": "/var/lib/cni/networks",
        "ranges": ranges(node, cni),
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    let ports = json!({
        "type": "portmap",
        "backend": "nftables",
        "capabilities": {"portMappings": true},
        "snat": true,
    });
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [link, ports]})
}

/// The plugins masquerade packets that leave the subnet. With routed links the subnet can be all pods of the cluster.
/// With a bridge it must be the bridge's subnet, so packets to pods of other nodes are masqueraded.
fn ranges(node: u8, cni: Cni) -> Value {
    let subnets = match cni {
        Cni::Bridge => addresses::pod_cidrs(node),
        Cni::Ptp => POD_CIDRS.map(str::to_owned),
    };
    let [gateway, first, last] = [1, FIRST, LAST].map(|host| addresses::pod(node, host));
    json!([
        [{"subnet": subnets[0], "gateway": gateway.v4, "rangeStart": first.v4, "rangeEnd": last.v4}],
        [{"subnet": subnets[1], "gateway": gateway.v6, "rangeStart": first.v6, "rangeEnd": last.v6}],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routed_pod_masquerades_behind_the_subnet_of_all_pods_and_a_bridged_one_behind_its_nodes() {
        let subnet = |cni| ranges(2, cni)[0][0]["subnet"].clone();
        assert_eq!(subnet(Cni::Ptp), "10.244.0.0/16");
        assert_eq!(subnet(Cni::Bridge), "10.244.2.0/24");
    }

    #[test]
    fn nodes_share_no_address_of_pods() {
        let range = |node, family: usize| {
            let range = &ranges(node, Cni::Ptp)[family][0];
            (range["gateway"].clone(), range["rangeStart"].clone(), range["rangeEnd"].clone())
        };
        assert_eq!(range(1, 0), ("10.244.1.1".into(), "10.244.1.2".into(), "10.244.1.254".into()));
        assert_eq!(
            range(2, 1),
            ("fd00:244:0:2::1".into(), "fd00:244:0:2::2".into(), "fd00:244:0:2::fe".into())
        );
    }
}
