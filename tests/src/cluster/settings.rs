//! A cluster's name, paths and options.

use std::env;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;
use crate::run_name::{self, RunName};

/// Folder of the components: set by xtask or by hand.
const BIN: &str = "SVC_CLUSTER_BIN";
const IMAGES: &str = "SVC_CLUSTER_IMAGES";
/// Folder that outlives `cargo clean`; the lasting cluster has its folder there.
const CACHE: &str = "SVC_CACHE";
/// Another name makes another cluster, beside the first.
const NAME: &str = "SVC_CLUSTER_NAME";
/// The cluster of `cargo xtask cluster`. Without a pid in its name it is never removed as a leftover.
const LASTING: &str = "svc-cluster";

#[derive(Clone, Debug)]
pub struct Settings {
    /// Prefix of every namespace and cgroup.
    pub name: String,
    /// Folder for everything that the cluster writes.
    pub dir: PathBuf,
    /// Folder of etcd, kube-apiserver and the other components.
    pub bin: PathBuf,
    /// Folder of image archives for the nodes; a control plane alone needs none.
    pub images: PathBuf,
    /// Number of nodes with credentials (`n1`, `n2`, ...); they need not exist.
    pub nodes: u8,
    /// Flags of the API server beside its usual ones.
    pub apiserver_flags: Vec<String>,
    /// Flags of the controller manager beside its usual ones.
    pub controller_flags: Vec<String>,
}

impl Settings {
    /// Settings of a cluster that one test makes and removes. Leftovers are recognised by the owner's pid.
    pub fn of_test(test: &str) -> Result<Self> {
        let name = RunName::new(test);
        Ok(Self {
            name: name.as_str().to_owned(),
            dir: name.dir(),
            bin: bin_dir()?,
            images: env::var_os(IMAGES).unwrap_or_default().into(),
            nodes: 3,
            apiserver_flags: Vec::new(),
            controller_flags: Vec::new(),
        })
    }

    /// Settings of the cluster that lasts until `down`.
    pub fn lasting() -> Result<Self> {
        let cache = env::var_os(CACHE).with_context(|| format!("{CACHE} is not set; cargo xtask sets it"))?;
        let name = env::var(NAME).unwrap_or_else(|_| LASTING.to_owned());
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        ensure!(is_plain && run_name::owner(&name).is_none(), "{NAME}={name}: not a name for a cluster");
        Ok(Self {
            dir: std::path::absolute(&cache)?.join("cluster").join(&name),
            name,
            // Not needed to remove the cluster.
            bin: bin_dir().unwrap_or_default(),
            images: env::var_os(IMAGES).unwrap_or_default().into(),
            nodes: 0,
            apiserver_flags: Vec::new(),
            controller_flags: Vec::new(),
        })
    }

    pub fn host(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// The network namespace that reaches API server, nodes and pods.
    pub(super) fn hub(&self) -> ManuallyDrop<Netns> {
        Netns::of_others(&self.host("hub"))
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> PathBuf {
        self.dir.join("users/admin.kubeconfig")
    }

    /// `kubectl` in the hub with one of the cluster's kubeconfigs.
    pub(super) fn kubectl(&self, hub: &Netns, kubeconfig: &Path) -> Result<Command> {
        let mut command = hub.command(self.program("kubectl")?)?;
        command.env("KUBECONFIG", kubeconfig);
        // The caller's home directory is neither read nor written.
        command.env("KUBECACHEDIR", self.dir.join("kubectl-cache")).env("KUBERC", "off");
        Ok(command)
    }

    /// Helm in the hub, with the workspace as its folder.
    pub(super) fn helm(&self, hub: &Netns, kubeconfig: &Path) -> Result<Command> {
        let mut command = hub.command(self.program("helm")?)?;
        command.current_dir(run_name::workspace_dir()).env("KUBECONFIG", kubeconfig);
        // The caller's home directory is neither read nor written.
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.dir.join("helm"));
        }
        Ok(command)
    }

    /// The path of a component.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.bin.join(name);
        ensure!(path.is_file(), "{name} is not in {BIN}={}; cargo xtask sets it", self.bin.display());
        Ok(path)
    }
}

/// `SVC_CLUSTER_BIN`.
pub fn bin_dir() -> Result<PathBuf> {
    let dir = env::var_os(BIN).with_context(|| format!("{BIN} is not set; cargo xtask sets it"))?;
    std::path::absolute(&dir).with_context(|| format!("{BIN}={}", dir.display()))
}
