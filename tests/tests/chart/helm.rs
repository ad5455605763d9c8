//! Runs Helm, and parses the objects that it renders.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize as _;
use serde_json::Value;
use svc_tests::cluster::bin_dir;
use svc_tests::command;
use svc_tests::run_name::workspace_dir;

pub const CHART: &str = "deploy/chart";

/// A Helm command in the root of the project, without access to the caller's home directory.
pub fn helm(arguments: &[&str]) -> Result<Command> {
    let mut helm = Command::new(bin_dir()?.join("helm"));
    helm.current_dir(workspace_dir()).args(arguments);
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(name, PathBuf::from("/nonexistent"));
    }
    Ok(helm)
}

/// The output of `helm template` with these values, YAML or JSON.
pub fn template(values: &str, more: &[&str]) -> Result<String> {
    let release = ["template", "svc", CHART, "--namespace=kube-system", "--values=-"];
    command::feed(helm(&release)?.args(more), values)
}

/// Warnings count as errors.
pub fn lint(values: &str) -> Result<String> {
    command::feed(&mut helm(&["lint", "--strict", "--quiet", CHART, "--values=-"])?, values)
}

pub fn objects(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize);
    let objects = documents.collect::<Result<Vec<_>, _>>().context("Helm's output is no YAML")?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

/// `DaemonSet/svc`.
pub fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
