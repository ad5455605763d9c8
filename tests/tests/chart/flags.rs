//! Compares the chart's settings with the flags of `svc-ctl run`, by the daemon's own parser.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use clap::{CommandFactory as _, Parser as _};
use libtest_mimic::Trial;
use serde_json::Value;
use svc_ctl::cli::args::Cli;
use svc_tests::run_name::workspace_dir;

use crate::{helm, matrix};

/// Flags without a value in the chart, with the reason.
const NOT_SET: &[(&str, &str)] = &[
    ("source", "a pod reads the API server"),
    ("kubeconfig", "the pod has its service account"),
    ("master", "k8sServiceHost, by the variable SVC_MASTER"),
    ("hostname-override", "spec.nodeName, by the variable NODE_NAME"),
    ("pin-dir", "a folder of the node that the pod mounts at the default place"),
    ("run-dir", "likewise"),
    ("cgroup", "found below /sys/fs/cgroup, which the pod mounts"),
    ("netns-dir", "netnsDir is mounted at the default place"),
    ("state-dir", "an API server keeps addresses"),
    ("once", "a pod runs on"),
    ("probes", "the kubelet probes the pods of a cluster"),
    ("node-heartbeat", "likewise the nodes"),
    ("help", "for people"),
];

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("every flag of svc-ctl run has a value of the chart or a reason", || Ok(complete()?)),
        Trial::test("every flag of svc-ctl run is in docs/configuration.md, and no other", || {
            Ok(explained()?)
        }),
    ]
}

/// The arguments of the DaemonSet's container after `run`.
pub fn of(objects: &[Value]) -> Result<Vec<String>> {
    let daemon_set = objects.iter().find(|object| object["kind"] == "DaemonSet").context("no DaemonSet")?;
    let arguments = &daemon_set["spec"]["template"]["spec"]["containers"][0]["args"];
    let mut arguments: Vec<String> = serde_json::from_value(arguments.clone()).context("its args")?;
    ensure!(arguments.first().is_some_and(|word| word == "run"), "it does not run: {arguments:?}");
    Ok(arguments.split_off(1))
}

/// The daemon accepts these flags, in which the kubelet puts the node's addresses.
pub fn parse(flags: &[String]) -> Result<()> {
    let flags = flags.iter().map(|flag| flag.replace("$(HOST_IPS)", "192.0.2.1,fd00::1"));
    let typed = ["svc-ctl".to_owned(), "run".to_owned()].into_iter().chain(flags);
    Cli::try_parse_from(typed).map(drop).context("svc-ctl refuses the flags")
}

fn known() -> Result<BTreeSet<String>> {
    let command = Cli::command();
    let run = command.find_subcommand("run").context("no command run")?;
    Ok(run.get_arguments().filter_map(|flag| flag.get_long()).map(str::to_owned).collect())
}

fn explained() -> Result<()> {
    let page = fs::read_to_string(workspace_dir().join("docs/configuration.md"))?;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `--"));
    let explained: BTreeSet<_> = rows
        .map(|row| row.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect::<String>())
        .collect();
    let mut known = known()?;
    known.remove("help");
    ensure!(explained == known, "docs/configuration.md has {explained:?}, svc-ctl has {known:?}");
    Ok(())
}

fn complete() -> Result<()> {
    let known = known()?;
    let mut set = BTreeSet::new();
    for mut row in matrix::rows() {
        row.values.remove("extraArgs");
        let Ok(text) = helm::template(&Value::Object(row.values).to_string(), &[]) else { continue };
        set.extend(of(&helm::objects(&text)?)?);
    }
    let set: BTreeSet<_> =
        set.iter().filter_map(|flag| flag.trim_start_matches("--").split('=').next()).collect();
    let not_set: BTreeSet<_> = NOT_SET.iter().map(|(flag, _)| *flag).collect();
    let missing: Vec<_> = known
        .iter()
        .filter(|flag| !set.contains(flag.as_str()) && !not_set.contains(flag.as_str()))
        .collect();
    ensure!(missing.is_empty(), "no row of matrix.yaml sets {missing:?}");
    let stale: Vec<_> = not_set.iter().filter(|flag| set.contains(**flag)).collect();
    ensure!(stale.is_empty(), "the chart does set {stale:?}");
    Ok(())
}
