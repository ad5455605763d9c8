//! `svc-ctl check` in a pod of svc: on a node where all is well, and beside one whose daemon hangs.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::testbed::{DAEMON, DAEMONS, Fixtures, Testbed, case};

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    vec![
        case(fixtures, "svc-ctl check --all-nodes passes where every node serves", healthy),
        case(fixtures, "svc-ctl check --all-nodes names the node whose daemon hangs", hanging),
    ]
}

fn healthy(testbed: &Testbed) -> Result<()> {
    let (found, is_well) = check(testbed, "n1")?;
    let failed: Vec<_> = found.iter().filter(|line| line["verdict"] == "fail").collect();
    ensure!(is_well && failed.is_empty(), "{failed:#?}");
    for (name, text) in [
        ("api server", "it answers, version v1."),
        ("rights", "all "),
        ("kube-proxy", "it does not run here"),
        ("daemon", "it runs"),
        ("nodes", "2 of 2 serve"),
        ("versions", " on 2 nodes"),
    ] {
        ensure!(passes(&found, name, text), "no pass of {name} says {text:?}: {found:#?}");
    }
    Ok(())
}

fn hanging(testbed: &Testbed) -> Result<()> {
    let pids = testbed.places.processes("n2", DAEMON)?;
    let _stopped = Stopped::new(pids)?;
    let (found, is_well) = check(testbed, "n1")?;
    let text = |line: &&Value| line["found"].as_str().unwrap_or_default().to_owned();
    let failed: Vec<_> = found.iter().filter(|line| line["verdict"] == "fail").collect();
    let said: Vec<_> = failed.iter().map(text).collect();
    ensure!(!is_well && said.len() == 2, "{failed:#?}");
    ensure!(said.iter().any(|line| line == "1 of 2 serve"), "{said:?}");
    ensure!(said.iter().any(|line| line.starts_with("n2 (") && line.contains("does not answer")), "{said:?}");
    Ok(())
}

fn passes(found: &[Value], name: &str, text: &str) -> bool {
    found.iter().any(|line| {
        line["name"] == name
            && line["verdict"] == "pass"
            && line["found"].as_str().is_some_and(|found| found.contains(text))
    })
}

/// The findings of a node's pod, and whether the exit code says that none is a failure.
fn check(testbed: &Testbed, node: &str) -> Result<(Vec<Value>, bool)> {
    let pods = testbed.places.await_pods("kube-system", DAEMONS, testbed.clients.len())?;
    let pod = pods.iter().find(|pod| pod.node == node).with_context(|| format!("{node} has no svc"))?;
    let check =
        ["-n", "kube-system", "exec", &pod.name, "--", "/svc-ctl", "check", "--all-nodes", "-o", "json"];
    let output = testbed.places.kubectl()?.args(check).output().context("kubectl exec")?;
    let found = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok((found, output.status.success()))
}

/// Processes that do not run until this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn new(pids: Vec<Pid>) -> Result<Self> {
        ensure!(!pids.is_empty(), "no daemon runs");
        let stopped = Self(pids);
        stopped.0.iter().try_for_each(|pid| kill(*pid, Signal::SIGSTOP)).context("stop the daemon")?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}
