//! The cluster's proxy: svc as its DaemonSet, or kube-proxy beside the kubelet.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::addresses::{API_PORT, HUB, LOAD_BALANCERS, POD_CIDRS};
use super::args::{Dns, Proxy};
use super::images;
use super::settings::Settings;
use crate::command;
use crate::run_name::workspace_dir;

/// The chart's DaemonSet.
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

/// The chart's objects. svc gives load-balancer addresses of the hub's network; if it serves DNS, its daemons answer at the
/// addresses of their nodes.
pub(super) fn svc_manifests(settings: &Settings, dns: Dns) -> Result<String> {
    let archives = images::archives(&settings.images)?;
    ensure!(images::find(&archives, "svc.local/svc:")?.is_some(), "the image svc.local/svc is not there");
    let config = match dns {
        Dns::Coredns => json!({}),
        Dns::Svc => json!({"dns": ["node"], "dnsUpstream": ""}),
    };
    let values = json!({
        "k8sServiceHost": HUB.v4,
        "k8sServicePort": API_PORT,
        "config": config,
        "loadBalancer": {"pools": [{"name": "hub", "addresses": LOAD_BALANCERS}]},
    });
    let mut helm = settings.helm(&settings.hub(), &settings.admin())?;
    helm.args(["template", "svc", "deploy/chart", "--namespace=kube-system", "--values=-"]);
    command::feed(&mut helm, &values.to_string())
}

/// The folder of the manifests that the chart's defaults give.
pub(super) fn manifests() -> PathBuf {
    workspace_dir().join("deploy")
}
