//! A cluster that another run of this program made: found by its name, never removed.

use std::fs;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::control_plane::COMPONENTS;
use super::node::{self, first_process};
use super::places::Places;
use super::processes::{program, visit};
use super::settings::Settings;
use super::state::State;
use crate::command::last_lines;
use crate::netns::Netns;
use crate::{cgroup, command};

#[derive(Clone, Debug)]
pub struct Running {
    pub(super) settings: Settings,
    pub state: State,
}

impl Running {
    pub fn open(settings: &Settings) -> Result<Self> {
        let state = State::read(settings).with_context(|| match settings.dir.exists() {
            true => "half a cluster is there: cargo xtask cluster up makes it whole, down removes it",
            false => "no cluster is up: cargo xtask cluster up",
        })?;
        Ok(Self { settings: settings.clone(), state })
    }

    /// `kubectl` as administrator.
    pub fn kubectl(&self) -> Result<Command> {
        self.places().kubectl()
    }

    /// The network namespace that reaches API server, nodes and pods.
    pub fn hub(&self) -> ManuallyDrop<Netns> {
        self.settings.hub()
    }

    pub fn places(&self) -> Places {
        Places::of(&self.settings)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.settings.admin()
    }

    /// Fails if a part of the cluster has ended; the error names it.
    pub fn check(&self) -> Result<()> {
        for index in 1..=self.state.nodes {
            let name = node::name(index);
            first_process(&self.settings, &name)?;
            let note = fs::read_to_string(self.settings.dir.join(&name).join("ended"));
            ensure!(note.is_err(), "{}", note.unwrap_or_default());
        }
        self.check_components()?;
        let ready = command::run(self.kubectl()?.args(["get", "--raw", "/readyz"]));
        ready.map(drop).context("the API server does not answer")
    }

    fn check_components(&self) -> Result<()> {
        let mut running = Vec::new();
        visit(&self.cgroup()?.join("hub"), &mut |_, pid| running.push(program(pid)));
        let ended = COMPONENTS.iter().find(|name| !running.iter().any(|program| program == *name));
        let Some(name) = ended else { return Ok(()) };
        let log = self.settings.dir.join("log").join(format!("{name}.log"));
        bail!("{name} has ended; cargo xtask cluster up makes the cluster anew:\n{}", last_lines(&log))
    }

    /// The parent of the hub's and nodes' cgroups, in the v2 hierarchy.
    pub(super) fn cgroup(&self) -> Result<PathBuf> {
        Ok(cgroup::mount_point()?.join(&self.settings.name))
    }
}
