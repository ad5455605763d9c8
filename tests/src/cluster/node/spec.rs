//! Settings of a node's first process: a JSON file, named by an environment variable.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// If set to the path of a [`Spec`], the program is a node.
pub const ENV: &str = "SVC_CLUSTER_NODE";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// `n1`.
    pub name: String,
    /// The node's cgroup below the mount point of every hierarchy.
    pub cgroup: PathBuf,
    /// Folder for everything that the node writes.
    pub dir: PathBuf,
    /// Folder of containerd, kubelet and the other components.
    pub bin: PathBuf,
    /// Archives to import before the kubelet starts.
    pub images: Vec<PathBuf>,
    pub kubelet_flags: Vec<String>,
    /// The configuration of kube-proxy, if it serves Services.
    pub kube_proxy: Option<PathBuf>,
}

impl Spec {
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// File in which the first process notes ended components.
    pub fn ended(&self) -> PathBuf {
        self.dir.join("ended")
    }
}
