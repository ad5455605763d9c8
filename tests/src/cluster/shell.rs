//! `shell`: a place in the cluster to look around in.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::args::Shell;
use super::running::{Running, first_process};
use crate::cgroup::Cgroup;
use crate::netns::{self, Netns};

const SHELL: &str = "sh";

/// Does not return when all goes well.
pub fn shell(running: &Running, args: &Shell) -> Result<()> {
    let words = if args.command.is_empty() { vec![OsString::from(SHELL)] } else { args.command.clone() };
    let name = running.settings.host(&args.host);
    ensure!(netns::names().contains(&name), "{}: not hub, client or one of the cluster's nodes", args.host);
    let mut command = match args.host.as_str() {
        "hub" | "client" => in_network(&name, &words)?,
        node => in_node(running, node, &words)?,
    };
    let bin = running.settings.bin.display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{bin}:{path}")).env("KUBECONFIG", running.kubeconfig());
    command
        .env("CONTAINERD_ADDRESS", "/run/containerd/containerd.sock")
        .env("CONTAINERD_NAMESPACE", "k8s.io");
    command.env("PS1", format!("{}# ", args.host));
    let error = command.exec();
    Err(error).with_context(|| format!("start {}", words[0].display()))
}

fn in_network(name: &str, words: &[OsString]) -> Result<Command> {
    let mut command = Netns::of_others(name).command(&words[0])?;
    command.args(&words[1..]);
    Ok(command)
}

/// In all namespaces of the node, and in a cgroup of it: what the node's programs say of sockets holds here too.
fn in_node(running: &Running, node: &str, words: &[OsString]) -> Result<Command> {
    let first = first_process(&running.cgroup(node)?)?;
    let target = format!("--target={first}");
    let all = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wd=/", "--"];
    let mut command = Command::new("nsenter");
    command.args([target.as_str()].into_iter().chain(all).map(OsStr::new)).args(words);
    Cgroup::new(&format!("{}/{node}/shell", running.settings.name))?.leave().adopt(&mut command)?;
    Ok(command)
}
