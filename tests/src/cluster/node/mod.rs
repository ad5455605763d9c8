//! One node: its namespaces, cgroups and folder; containerd, kubelet and, if requested, kube-proxy in them.
//!
//! `network` and the configurations are made from outside; `init` is the node's first process.

mod cni;
mod containerd;
mod enter;
mod init;
mod kubelet;
mod mounts;
pub(super) mod network;
mod spec;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub(super) use enter::{command, first_process};
pub(super) use init::PROCESS;
pub use init::maybe_run;
use spec::Spec;

use super::args::Up;
use super::control_plane::ControlPlane;
use super::hierarchies::OldHierarchies;
use super::process::Process;
use super::{addresses, images, proxy};
use crate::cleanup::THIS_PROGRAM;
use crate::netns::Netns;

/// A started node; dropping it ends and removes it.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: processes before their namespaces.
    process: Process,
    _hierarchies: OldHierarchies,
    pub netns: Netns,
    spec: Spec,
}

impl Node {
    /// Starts node `index` (from 1) without waiting until it is ready.
    pub(super) fn start(index: u8, options: &Up, plane: &ControlPlane) -> Result<Self> {
        let (name, settings) = (name(index), plane.settings());
        let dir = plane.dir().join(&name);
        let spec = Spec {
            cgroup: Path::new(&settings.name).join(&name),
            bin: settings.bin.clone(),
            images: images::archives(&settings.images)?,
            kubelet_flags: kubelet::flags(&name, index, &dir, &plane.kubeconfig(&name)),
            kube_proxy: proxy::kube_proxy_mode(options.proxy).map(|_| dir.join("kube-proxy.yaml")),
            name: name.clone(),
            dir,
        };
        spec.write(index, options, plane)?;
        let netns = network::machine(plane.hub(), &settings.host(&name), &name, addresses::node(index))?;
        network::forward(&netns, !options.lenient)?;
        for other in (1..=options.nodes).filter(|other| *other != index) {
            network::route_pods(&netns, other)?;
        }
        network::route_pods(plane.hub(), index)?;

        let mut command = netns.command(THIS_PROGRAM)?;
        command.arg0(PROCESS).env(spec::ENV, spec.path());
        let process = Process::start("node", command, plane.cgroup().child(&name)?, &spec.log_dir())?;
        Ok(Self { process, _hierarchies: OldHierarchies::of(&spec.cgroup), netns, spec })
    }

    /// Fails if a component of the node has ended; the error names it.
    pub(super) fn check(&mut self) -> Result<()> {
        self.process.check().with_context(|| format!("node {}", self.spec.name))?;
        match fs::read_to_string(self.spec.ended()) {
            Ok(note) => bail!("{note}"),
            Err(_) => Ok(()),
        }
    }
}

impl Spec {
    fn path(&self) -> PathBuf {
        self.dir.join("node.json")
    }

    /// Writes the node's folder with all files that its components read.
    fn write(&self, index: u8, options: &Up, plane: &ControlPlane) -> Result<()> {
        fs::create_dir_all(self.log_dir()).with_context(|| format!("make {}", self.dir.display()))?;
        containerd::configure(self, &images::pause(&self.images)?)?;
        cni::configure(&self.dir.join(containerd::CNI_DIR), index, options.cni, !options.lenient)?;
        kubelet::configure(&self.dir, &plane.ca())?;
        if let (Some(path), Some(mode)) = (&self.kube_proxy, proxy::kube_proxy_mode(options.proxy)) {
            proxy::configure_kube_proxy(path, mode, &self.name, &plane.kubeconfig("kube-proxy"))?;
        }
        fs::write(self.path(), serde_json::to_vec_pretty(self)?).context("write the node's file")
    }
}

pub(super) fn name(index: u8) -> String {
    format!("n{index}")
}

/// The Node object. Made before the kubelet registers it, so that its pod CIDRs are known from the beginning.
pub(super) fn object(index: u8, zones: &[String]) -> Value {
    let mut labels = json!({});
    if !zones.is_empty() {
        labels["topology.kubernetes.io/zone"] = zones[usize::from(index - 1) % zones.len()].clone().into();
    }
    let cidrs = addresses::pod_cidrs(index);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name(index), "labels": labels},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
    })
}
