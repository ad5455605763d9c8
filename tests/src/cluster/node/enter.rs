//! Runs commands in a node.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cgroup::{self, Cgroup};
use crate::cluster::settings::Settings;

/// A command in all namespaces and a cgroup of the node, so that the node's socket programs apply to it.
pub(in crate::cluster) fn command(settings: &Settings, node: &str, program: &OsStr) -> Result<Command> {
    let target = format!("--target={}", first_process(settings, node)?);
    let all = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wd=/", "--"];
    let mut command = Command::new("nsenter");
    command.arg(target).args(all).arg(program);
    Cgroup::new(&format!("{}/{node}/shell", settings.name))?.leave().contain(&mut command)?;
    Ok(command)
}

/// The node's PID 1, by its number in this namespace.
pub(in crate::cluster) fn first_process(settings: &Settings, node: &str) -> Result<u32> {
    let procs = cgroup::mount_point()?.join(&settings.name).join(node).join("init/cgroup.procs");
    let pids = fs::read_to_string(&procs).with_context(|| format!("read {}", procs.display()))?;
    let found = pids.lines().filter_map(|line| line.parse().ok()).find(|pid| is_first(*pid));
    found.with_context(|| format!("node {node} has ended"))
}

/// `NSpid:` has a process's number in each PID namespace, the innermost last.
fn is_first(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<_> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}
