//! A host: a namespace, a cgroup, an agent, and its address.

use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

use super::addresses::Addrs;
use crate::agent::Agent;
use crate::cgroup::Cgroup;
use crate::netns::Netns;

/// The client, a node, or a pod.
#[derive(Debug)]
pub struct Host {
    // Dropped in this order: a process holds its namespace and its cgroup.
    pub agent: Arc<Agent>,
    pub netns: Netns,
    cgroup: Cgroup,
    pub addrs: Addrs,
}

impl Host {
    pub(super) fn new(name: &str, netns: Netns, cgroup: Cgroup, addrs: Addrs) -> Result<Self> {
        let agent = Arc::new(Agent::start(name, &netns, &cgroup)?);
        Ok(Self { agent, netns, cgroup, addrs })
    }

    pub fn name(&self) -> &str {
        self.agent.name()
    }

    /// A command in the host's namespace and cgroup.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = self.netns.command(program)?;
        self.cgroup.contain(&mut command)?;
        Ok(command)
    }
}
