//! The cluster's proxy: svc as its DaemonSet, or kube-proxy beside the kubelet.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::addresses::POD_CIDRS;
use super::args::{Dns, Proxy};
use super::images;
use super::settings::Settings;
use crate::run_name::workspace_dir;

/// The manifests that users apply: rights, and the DaemonSet.
const FILES: [&str; 2] = ["deploy/rbac.yaml", "deploy/daemonset.yaml"];
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

/// The shipped manifests. If svc serves DNS, its daemons answer at the addresses of their nodes.
pub(super) fn svc_manifests(settings: &Settings, dns: Dns) -> Result<Vec<String>> {
    let archives = images::archives(&settings.images)?;
    ensure!(images::find(&archives, "svc.local/svc:")?.is_some(), "the image svc.local/svc is not there");
    let [rights, daemon_set] = FILES.map(|name| {
        let path = workspace_dir().join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    });
    let daemon_set = match dns {
        Dns::Coredns => daemon_set?,
        Dns::Svc => with_dns(serde_yaml_ng::from_str(&daemon_set?).context("the DaemonSet")?).to_string(),
    };
    Ok(vec![rights?, daemon_set])
}

/// The folder of these manifests.
pub(super) fn manifests() -> PathBuf {
    workspace_dir().join("deploy")
}

/// As the chart renders `config: {dns: [node], dnsUpstream: ""}`.
fn with_dns(mut daemon_set: Value) -> Value {
    let container = &mut daemon_set["spec"]["template"]["spec"]["containers"][0];
    let mut add = |field: &str, item: Value| {
        container
            .pointer_mut(field)
            .and_then(Value::as_array_mut)
            .into_iter()
            .for_each(|list| list.push(item.clone()));
    };
    add("/args", "--dns=$(HOST_IPS)".into());
    add("/args", "--dns-upstream=".into());
    add("/env", json!({"name": "HOST_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}}));
    add("/securityContext/capabilities/add", "NET_BIND_SERVICE".into());
    daemon_set
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
