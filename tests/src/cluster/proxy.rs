//! The cluster's proxy: svc as its DaemonSet, or kube-proxy beside the kubelet.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::addresses::POD_CIDRS;
use super::args::Proxy;
use super::images;
use super::settings::Settings;
use crate::run_name::workspace_dir;

/// The manifests that users apply.
const DEPLOY: &str = "deploy";
/// The DaemonSet in them.
pub(super) const DAEMON_SET: &str = "daemonset/svc";

pub(super) fn kube_proxy_mode(proxy: Proxy) -> Option<&'static str> {
    match proxy {
        Proxy::KubeProxyNftables => Some("nftables"),
        Proxy::KubeProxyIptables => Some("iptables"),
        Proxy::Svc | Proxy::None => None,
    }
}

pub(super) fn configure_kube_proxy(path: &Path, mode: &str, node: &str, kubeconfig: &Path) -> Result<()> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "hostnameOverride": node,
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": POD_CIDRS.join(","),
        "bindAddress": "0.0.0.0",
        // Neither may be changed outside the machine's first network namespace, or without privileges for it.
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    fs::write(path, format!("{config:#}\n")).with_context(|| format!("write {}", path.display()))
}

/// The shipped manifests.
pub(super) fn svc_manifests(settings: &Settings) -> Result<PathBuf> {
    let archives = images::archives(&settings.images)?;
    ensure!(images::find(&archives, "svc.local/svc:")?.is_some(), "the image svc.local/svc is not there");
    Ok(manifests())
}

pub(super) fn manifests() -> PathBuf {
    workspace_dir().join(DEPLOY)
}

/// The address of the API server, which svc cannot find by itself.
pub(super) fn svc_config(url: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "svc", "namespace": "kube-system"},
        "data": {"master": url},
    })
}
