//! The kubelet's configuration and flags.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::containerd;
use crate::cluster::addresses::{self, DNS};

/// Free part below which the kubelet evicts pods: never.
const NEVER: &str = "0%";

/// Writes the configuration; the flags name it.
///
/// No evictions and no QoS cgroups: the machine is shared, and its disk may be nearly full.
pub(super) fn configure(dir: &Path, ca: &Path) -> Result<()> {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": ca},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "clusterDNS": [DNS.v4],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", containerd::SOCKET),
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": NEVER,
            "nodefs.available": NEVER,
            "nodefs.inodesFree": NEVER,
            "imagefs.available": NEVER,
            "imagefs.inodesFree": NEVER,
        },
        "failCgroupV1": false,
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Images are only imported, so no pull secrets apply.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        // Both need a privilege that CI containers often lack.
        "maxOpenFiles": 20000,
        "oomScoreAdj": 0,
        "nodeStatusUpdateFrequency": "5s",
        "resolvConf": "/etc/resolv.conf",
    });
    let path = dir.join("kubelet.yaml");
    fs::write(&path, format!("{config:#}\n")).with_context(|| format!("write {}", path.display()))
}

pub(super) fn flags(name: &str, index: u8, dir: &Path, kubeconfig: &Path) -> Vec<String> {
    let address = addresses::node(index);
    vec![
        format!("--config={}", dir.join("kubelet.yaml").display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--hostname-override={name}"),
        format!("--node-ip={},{}", address.v4, address.v6),
        "--v=2".into(),
    ]
}
