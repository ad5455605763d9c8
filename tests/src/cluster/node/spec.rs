//! What a node's first process is told: a file of JSON, named by a variable.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Set to the path of a [`Spec`], it makes the program a node.
pub const ENV: &str = "SVC_CLUSTER_NODE";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// `n1`.
    pub name: String,
    /// The node's cgroup below the mount point of every hierarchy.
    pub cgroup: PathBuf,
    /// Everything the node writes.
    pub dir: PathBuf,
    /// Where containerd, kubelet and the others are.
    pub bin: PathBuf,
    /// Archives to import before the kubelet starts.
    pub images: Vec<PathBuf>,
    pub kubelet_flags: Vec<String>,
    /// The configuration of kube-proxy, where it serves Services.
    pub kube_proxy: Option<PathBuf>,
}

impl Spec {
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Where the first process notes what has ended.
    pub fn ended(&self) -> PathBuf {
        self.dir.join("ended")
    }
}
