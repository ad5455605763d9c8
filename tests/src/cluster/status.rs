//! `status`: a page about the cluster.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::control_plane::COMPONENTS;
use super::node::PROCESS;
use super::processes::{program, visit};
use super::running::Running;
use crate::command;

pub fn status(running: &Running) -> Result<()> {
    println!("cluster up {}\n", running.state.flags);
    for step in &running.state.steps {
        println!("{:6.1} s  {}", step.at, step.name);
    }
    println!("\n{:<28} {:>8} {:>10}", "process", "pid", "RSS");
    let top = running.cgroup()?;
    let mut total = 0;
    for process in processes(&top) {
        total += process.rss;
        println!("{:<28} {:>8} {:>6} MiB", process.name, process.pids, process.rss / MIB);
    }
    println!("{:<28} {:>8} {:>6} MiB\n", "all", "", total / MIB);
    for ask in [vec!["version"], vec!["get", "nodes", "-o", "wide"], vec!["get", "pods", "-A", "-o", "wide"]]
    {
        println!("{}", command::run(running.kubectl()?.args(ask))?);
    }
    running.check()
}

const MIB: u64 = 1 << 20;

/// A component, or all of a node's containers.
struct Process {
    name: String,
    pids: String,
    /// In octets.
    rss: u64,
}

fn processes(top: &Path) -> Vec<Process> {
    let mut found: BTreeMap<String, (Vec<u32>, u64)> = BTreeMap::new();
    visit(top, &mut |cgroup, pid| {
        let place = cgroup.strip_prefix(top).unwrap_or(cgroup);
        let host = place.iter().next().unwrap_or_default().display().to_string();
        let rss = rss(pid);
        let entry = found.entry(format!("{host}/{}", kind(pid))).or_default();
        entry.0.push(pid);
        entry.1 += rss;
    });
    let named = |(name, (pids, rss)): (String, (Vec<u32>, u64))| {
        let pids = if let [pid] = pids[..] { pid.to_string() } else { format!("{} of", pids.len()) };
        Process { name, pids, rss }
    };
    found.into_iter().map(named).collect()
}

/// The component's name; all containers count as one.
fn kind(pid: u32) -> String {
    const OF_NODES: [&str; 5] = [PROCESS, "containerd", "containerd-shim-runc-v2", "kubelet", "kube-proxy"];
    let name = program(pid);
    let is_known = COMPONENTS.iter().chain(&OF_NODES).any(|known| *known == name);
    if is_known { name } else { "containers".into() }
}

fn rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
