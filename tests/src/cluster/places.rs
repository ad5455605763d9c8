//! Agents in a cluster: outside, on a node, in a pod. Found by the cluster's name alone.

use std::collections::BTreeSet;
use std::fs;
use std::mem::ManuallyDrop;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::unistd::Pid;

use super::node::first_process;
use super::pods::Pod;
use super::processes::{program, visit};
use super::proxy;
use super::settings::Settings;
use crate::agent::Agent;
use crate::cgroup::{Cgroup, mount_point};
use crate::netns::Netns;
use crate::{command, wait};

/// Maximum time until an object's pods are ready.
const PODS_LIMIT: Duration = Duration::from_secs(120);

/// Access to a running cluster of any process.
#[derive(Clone, Debug)]
pub struct Places {
    settings: Settings,
}

impl Places {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { settings: settings.clone() }
    }

    /// `kubectl` as administrator.
    pub fn kubectl(&self) -> Result<Command> {
        self.settings.kubectl(&self.settings.hub(), &self.settings.admin())
    }

    /// `helm` as administrator.
    pub fn helm(&self) -> Result<Command> {
        self.settings.helm(&self.settings.hub(), &self.settings.admin())
    }

    /// The manifests of svc that the cluster has from its beginning.
    pub fn manifests(&self) -> PathBuf {
        proxy::manifests()
    }

    /// A client on a machine outside the cluster.
    pub fn outside(&self) -> Result<Agent> {
        self.agent("client", "client", &Netns::of_others(&self.settings.host("client")))
    }

    /// A process on a node (`n1`), outside of all pods.
    pub fn on_node(&self, node: &str) -> Result<Agent> {
        self.agent(node, node, &Netns::of_others(&self.settings.host(node)))
    }

    /// Another process in a pod's network, even if its image has no program for that.
    pub fn in_pod(&self, pod: &Pod) -> Result<Agent> {
        let netns = self.netns(pod)?;
        self.agent(&pod.name, &pod.node, &netns)
    }

    /// `kubectl` as administrator in a pod's network.
    pub fn kubectl_in(&self, pod: &Pod) -> Result<Command> {
        let netns = self.netns(pod)?;
        self.settings.kubectl(&netns, &self.settings.admin())
    }

    /// The node's processes of that name, including those in containers, by their numbers here.
    pub fn processes(&self, node: &str, name: &str) -> Result<Vec<Pid>> {
        let mut found = Vec::new();
        visit(&mount_point()?.join(&self.settings.name).join(node), &mut |_, pid| {
            if program(pid) == name {
                found.push(pid);
            }
        });
        found.into_iter().map(|pid| Ok(Pid::from_raw(pid.try_into()?))).collect()
    }

    /// The cgroup is below the host's, so that the node's socket programs apply to the agent.
    fn agent(&self, name: &str, host: &str, netns: &Netns) -> Result<Agent> {
        let cgroup = Cgroup::new(&format!("{}/{host}/agents", self.settings.name))?;
        // The cgroup stays for other agents, and is removed with the cluster.
        Agent::start(name, netns, &cgroup.leave())
    }

    /// The CNI's namespace files have random names, so the pod's is found by its addresses.
    fn netns(&self, pod: &Pod) -> Result<ManuallyDrop<Netns>> {
        let first = first_process(&self.settings, &pod.node)?;
        let dir = PathBuf::from(format!("/proc/{first}/root/run/netns"));
        let files = fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))?;
        let mut all = files.flatten().map(|file| Netns::at(file.path()));
        let found =
            all.find(|netns| addresses(netns).is_ok_and(|has| pod.ips.iter().any(|ip| has.contains(ip))));
        found.with_context(|| format!("pod {} has no network namespace of its own on {}", pod.name, pod.node))
    }

    /// All pods that match a selector (`app=a`).
    pub fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
        let ask = ["-n", namespace, "get", "pods", "-o", "json", "-l", selector];
        let list = command::run(self.kubectl()?.args(ask))?;
        Ok(Pod::of_list(&serde_json::from_str(&list).context("parse a list of pods")?))
    }

    /// Waits until exactly that many pods match a selector, all of them ready and none terminating.
    pub fn await_pods(&self, namespace: &str, selector: &str, count: usize) -> Result<Vec<Pod>> {
        let what = format!("{count} pods with {selector} in {namespace} are ready");
        wait::until(&what, PODS_LIMIT, || {
            let pods = self.pods(namespace, selector)?;
            let are_ready = pods.iter().all(|pod| pod.is_ready && !pod.is_ending);
            Ok((pods.len() == count && are_ready).then_some(pods))
        })
    }
}

fn addresses(netns: &Netns) -> Result<BTreeSet<IpAddr>> {
    netns.within(|| {
        let ips = getifaddrs()?.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|it| it.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
        });
        Ok(ips.collect())
    })
}
