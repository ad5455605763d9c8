//! The Helm chart with the real API server: the server accepts every field that the chart renders for the table of tier
//! `chart`. A release is installed, changed and removed.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde::Deserialize as _;
use serde_json::{Value, json};
use svc_tests::command;

use crate::fixtures::Fixtures;
use crate::plane::SharedControlPlane;

const MATRIX: &str = include_str!("../chart/matrix.yaml");
/// Kinds of the Prometheus operator, which is not installed.
const OF_OPERATOR: &str = "monitoring.coreos.com/";

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let trial = |sentence, act: fn(&SharedControlPlane) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        Trial::test(sentence, move || Ok(act(fixtures.control_plane()?.as_ref())?))
    };
    vec![
        trial("the API server accepts the chart's output", accepted),
        trial("a release of the chart is installed, upgraded and uninstalled without a rest", released),
    ]
}

/// Sends the objects of all rows as dry runs: their names repeat, and nothing is stored.
fn accepted(plane: &SharedControlPlane) -> Result<()> {
    let rows: Vec<Value> = serde_yaml_ng::from_str(MATRIX).context("matrix.yaml")?;
    let mut objects = Vec::new();
    for row in rows.iter().filter(|row| row.get("refused").is_none()) {
        let values = row.get("values").unwrap_or(&Value::Null).to_string();
        let release = ["template", "svc", "deploy/chart", "--namespace=kube-system", "--values=-"];
        let text = command::feed(plane.control().helm()?.args(release), &values)?;
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).context("Helm's output")?;
            if object["apiVersion"].as_str().is_some_and(|version| !version.starts_with(OF_OPERATOR)) {
                objects.push(object);
            }
        }
    }
    ensure!(objects.len() > rows.len(), "{} objects of {} rows", objects.len(), rows.len());
    // A dry run makes no namespace, so objects of one that the chart makes are tried in another one.
    let namespaces = objects.iter().filter(|object| object["kind"] == "Namespace");
    let made: Vec<Value> = namespaces.map(|namespace| namespace["metadata"]["name"].clone()).collect();
    for namespace in objects.iter_mut().filter_map(|object| object.pointer_mut("/metadata/namespace")) {
        if made.contains(namespace) {
            *namespace = json!("kube-system");
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let dry =
        ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];
    command::feed(plane.control().kubectl()?.args(dry), &list).map(drop)
}

fn released(plane: &SharedControlPlane) -> Result<()> {
    // Other cases have Nodes here, without a kubelet.
    let [name, nowhere] = ["charted", "--set=nodeSelector.none=here"];
    let release = [name, "deploy/chart", "--namespace=kube-system"];
    let left = || {
        let kinds = "daemonsets,configmaps,serviceaccounts,clusterroles,clusterrolebindings,secrets";
        let labels = format!("app.kubernetes.io/instance={name}");
        plane.kubectl(&["-n", "kube-system", "get", kinds, "-l", &labels, "-o", "name"])
    };
    let arguments = || {
        let path = "jsonpath={.spec.template.spec.containers[0].args}";
        plane.kubectl(&["-n", "kube-system", "get", "daemonset", "charted-svc", "-o", path])
    };

    let set = [nowhere, "--set=k8sServiceHost=172.30.0.1,config.selection=random"];
    command::run(plane.control().helm()?.arg("install").args(release).args(set))?;
    ensure!(arguments()? == r#"["run","--selection=random"]"#, "installed: {}", arguments()?);
    let there = left()?.lines().count();
    ensure!(there == 5, "installed: {}", left()?);

    let set = ["--reuse-values", "--set=config.masqueradeAll=true"];
    command::run(plane.control().helm()?.arg("upgrade").args(release).args(set))?;
    ensure!(
        arguments()? == r#"["run","--selection=random","--masquerade-all"]"#,
        "upgraded: {}",
        arguments()?
    );

    command::run(plane.control().helm()?.args(["uninstall", name, "--namespace=kube-system", "--wait"]))?;
    ensure!(left()?.is_empty(), "left behind: {}", left()?);
    Ok(())
}
