//! A cluster that another run of this program made: found by its name, asked, never removed.

use std::fs;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::node;
use super::settings::Settings;
use super::state::State;
use crate::netns::Netns;
use crate::{cgroup, command};

#[derive(Clone, Debug)]
pub struct Running {
    pub(super) settings: Settings,
    pub state: State,
}

impl Running {
    pub fn open(settings: &Settings) -> Result<Self> {
        let state = State::read(settings).context("no cluster is up: cargo xtask cluster up")?;
        Ok(Self { settings: settings.clone(), state })
    }

    /// `kubectl` as administrator.
    pub fn kubectl(&self) -> Result<Command> {
        self.settings.kubectl(&self.hub(), &self.kubeconfig())
    }

    /// The network namespace from which API server, nodes and pods are reached.
    pub fn hub(&self) -> ManuallyDrop<Netns> {
        Netns::of_others(&self.settings.host("hub"))
    }

    /// Where kubectl and the others are.
    pub fn programs(&self) -> &Path {
        &self.settings.bin
    }

    /// Goes with the cluster.
    pub fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.settings.dir.join("users/admin.kubeconfig")
    }

    /// An error that says what does not live as it should.
    pub fn check(&self) -> Result<()> {
        for index in 1..=self.state.nodes {
            let name = node::name(index);
            first_process(&self.cgroup(&name)?)?;
            let note = fs::read_to_string(self.settings.dir.join(&name).join("ended"));
            ensure!(note.is_err(), "{}", note.unwrap_or_default());
        }
        let ready = command::run(self.kubectl()?.args(["get", "--raw", "/readyz"]));
        ready.map(drop).context("the API server does not answer")
    }

    /// The cgroup of `hub` or a node, in the v2 hierarchy.
    pub(super) fn cgroup(&self, host: &str) -> Result<PathBuf> {
        Ok(cgroup::mount_point()?.join(&self.settings.name).join(host))
    }
}

/// The node's PID 1, by the number it has here.
pub(super) fn first_process(cgroup: &Path) -> Result<u32> {
    let path = cgroup.join("init/cgroup.procs");
    let pids = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let found = pids.lines().filter_map(|line| line.parse().ok()).find(|pid| is_first(*pid));
    found.with_context(|| format!("no first process in {}", cgroup.display()))
}

/// `NSpid:` has a process' number in each PID namespace, the innermost last.
fn is_first(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<_> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}
