//! `shell`: runs a shell in a part of the cluster.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, ensure};

use super::args::Shell;
use super::node;
use super::running::Running;
use crate::netns::{self, Netns};

const SHELL: &str = "sh";

/// Does not return on success.
pub fn shell(running: &Running, args: &Shell) -> Result<()> {
    let words = if args.command.is_empty() { vec![OsString::from(SHELL)] } else { args.command.clone() };
    let name = running.settings.host(&args.host);
    ensure!(netns::names().contains(&name), "{}: not hub, client or one of the cluster's nodes", args.host);
    let mut command = match args.host.as_str() {
        "hub" | "client" => Netns::of_others(&name).command(&words[0])?,
        node => node::command(&running.settings, node, &words[0])?,
    };
    command.args(&words[1..]);
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
