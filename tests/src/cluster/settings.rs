//! What a cluster is called, where its files and its programs are, and what may differ between clusters.

use std::env;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;
use crate::run_name::{self, RunName};

/// Where the components are: xtask sets it, a person may.
const BIN: &str = "SVC_CLUSTER_BIN";
const IMAGES: &str = "SVC_CLUSTER_IMAGES";
/// What outlives a `cargo clean`; the one cluster that outlives the program has its folder there.
const CACHE: &str = "SVC_CACHE";
/// Another name makes another cluster, beside the first.
const NAME: &str = "SVC_CLUSTER_NAME";
/// The cluster of `cargo xtask cluster`. A name without a pid: no janitor takes it for a leftover.
const LASTING: &str = "svc-cluster";

#[derive(Clone, Debug)]
pub struct Settings {
    /// First name of every namespace and cgroup.
    pub name: String,
    /// Everything the cluster writes is below this folder.
    pub dir: PathBuf,
    /// Holds etcd, kube-apiserver and the others.
    pub bin: PathBuf,
    /// Holds archives of images, which every node imports; a control plane alone needs none.
    pub images: PathBuf,
    /// How many nodes have credentials (`n1`, `n2`, ...); none of them need exist.
    pub nodes: u8,
    /// Flags of the API server over its usual ones.
    pub apiserver_flags: Vec<String>,
    /// Flags of the controller manager over its usual ones.
    pub controller_flags: Vec<String>,
}

impl Settings {
    /// The settings of a cluster that one test makes and removes; leftovers are recognised by the owner's pid.
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

    /// The settings of the cluster that stays until it is taken down.
    pub fn lasting() -> Result<Self> {
        let cache = env::var_os(CACHE).with_context(|| format!("{CACHE} is not set; cargo xtask sets it"))?;
        let name = env::var(NAME).unwrap_or_else(|_| LASTING.to_owned());
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        ensure!(is_plain && run_name::owner(&name).is_none(), "{NAME}={name}: not a name for a cluster");
        Ok(Self {
            dir: std::path::absolute(&cache)?.join("cluster").join(&name),
            name,
            // What only removes it needs none.
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

    /// The network namespace from which API server, nodes and pods are reached.
    pub(super) fn hub(&self) -> ManuallyDrop<Netns> {
        Netns::of_others(&self.host("hub"))
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> PathBuf {
        self.dir.join("users/admin.kubeconfig")
    }

    /// `kubectl` in the hub with a kubeconfig of the cluster's.
    pub(super) fn kubectl(&self, hub: &Netns, kubeconfig: &Path) -> Result<Command> {
        let mut command = hub.command(self.program("kubectl")?)?;
        command.env("KUBECONFIG", kubeconfig);
        // Nothing is read from or written to the caller's home.
        command.env("KUBECACHEDIR", self.dir.join("kubectl-cache")).env("KUBERC", "off");
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
