//! The Helm chart on the cluster, as the operator of a kubeadm cluster uses it.

use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_tests::cluster::addresses::POD_CIDRS;
use svc_tests::{command, http};

use crate::load::{Load, Rates};
use crate::testbed::{DAEMONS, Fixtures, Testbed, case};

/// kube-proxy's, as kubeadm writes it; svc-ctl's tests explain each of its fields.
const KUBEADM: &str = include_str!("../../../svc-ctl/tests/config/kubeadm.yaml");
/// The pod network in it.
const POD_NETWORK: &str = "10.244.0.0/16";
const METRICS: &str = "127.0.0.1:10249";

const RATES: Rates = Rates { new: 5, streams: 1, asks: 10 };

/// The case leaves a cluster without svc's pods, so it comes last.
pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    vec![case(
        fixtures,
        "the chart reads kubeadm's ConfigMap; its install, upgrade and uninstall fail no request (SEM-253)",
        released,
    )]
}

fn released(testbed: &Testbed) -> Result<()> {
    let load = Load::start(testbed, RATES)?;
    let url = testbed.kubectl(&[
        "-n",
        "kube-system",
        "get",
        "configmap",
        "svc",
        "-o",
        "jsonpath={.data.master}",
    ])?;
    testbed.kubectl(&["delete", "-f", &testbed.places.manifests().display().to_string()])?;
    testbed.kubectl(&["-n", "kube-system", "delete", "configmap", "svc"])?;
    testbed.places.await_pods("kube-system", DAEMONS, 0)?;
    let mut kubectl = testbed.places.kubectl()?;
    command::feed(kubectl.args(["apply", "-f", "-"]), &of_kubeadm(&url)?.to_string())?;

    let release = ["svc", "deploy/chart", "--namespace=kube-system"];
    helm(testbed, &[&["install"], &release[..], &["--set=kubeProxy.configMap=kube-proxy"]].concat())?;
    rolled_out(testbed)?;
    for index in 1..=testbed.clients.len() {
        let configz = at_node(testbed, index, "/configz")?;
        for part in [POD_CIDRS.join(",").as_str(), "\"detectLocalMode\":\"ClusterCIDR\""] {
            ensure!(configz.contains(part), "/configz of node {index} lacks {part}: {configz}");
        }
    }
    load.check()?;

    let change = ["--reuse-values", "--set=config.selection=random"];
    helm(testbed, &[&["upgrade"], &release[..], &change].concat())?;
    rolled_out(testbed)?;
    for index in 1..=testbed.clients.len() {
        let flagz = at_node(testbed, index, "/flagz")?;
        // Each request uses another delimiter between name and value.
        for (name, value) in [("selection", "random"), ("detect-local-mode", "cluster-cidr")] {
            let is_set = |line: &str| line.starts_with(name) && line.trim_end().ends_with(value);
            ensure!(flagz.lines().any(is_set), "/flagz of node {index} lacks {name} {value}: {flagz}");
        }
    }
    load.check()?;

    helm(testbed, &["uninstall", "svc", "--namespace=kube-system", "--wait"])?;
    testbed.places.await_pods("kube-system", DAEMONS, 0)?;
    let before = load.check()?;
    svc_tests::wait::until_true("traffic goes on without svc's pods", crate::replicas::LIMIT, || {
        Ok(load.check()?.ok > before.ok + 200)
    })
}

/// kubeadm's ConfigMap for this cluster: its pod networks, and the API server's address.
fn of_kubeadm(url: &str) -> Result<Value> {
    let text = KUBEADM.replace(POD_NETWORK, &POD_CIDRS.join(","));
    let mut map: Value = serde_yaml_ng::from_str(&text)?;
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "default",
            "cluster": {"certificate-authority": format!("{account}/ca.crt"), "server": url},
        }],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"tokenFile": format!("{account}/token")}}],
    });
    map["data"]["kubeconfig.conf"] = kubeconfig.to_string().into();
    Ok(map)
}

fn helm(testbed: &Testbed, arguments: &[&str]) -> Result<String> {
    command::run(testbed.places.helm()?.args(arguments))
}

fn rolled_out(testbed: &Testbed) -> Result<()> {
    let status = ["-n", "kube-system", "rollout", "status", "--timeout=120s", "daemonset/svc"];
    testbed.kubectl(&status).map(drop)
}

/// The answer of a node's daemon to one of the node's processes.
fn at_node(testbed: &Testbed, index: usize, path: &str) -> Result<String> {
    let node = testbed.cluster.node(index).ok_or_else(|| anyhow::anyhow!("there is no node {index}"))?;
    node.netns.within(|| http::get(METRICS.parse()?, path))
}
