//! What a cluster is called, where its files and its programs are, and what may differ between clusters.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::run_name::RunName;

/// Where the components are: xtask sets it, a person may.
const BIN: &str = "SVC_CLUSTER_BIN";

#[derive(Clone, Debug)]
pub struct Settings {
    /// First name of every namespace and cgroup.
    pub name: String,
    /// Everything the cluster writes is below this folder.
    pub dir: PathBuf,
    /// Holds etcd, kube-apiserver and the others.
    pub bin: PathBuf,
    /// How many nodes have credentials (`n1`, `n2`, ...); none of them need exist.
    pub nodes: u8,
    /// Flags of the API server over its usual ones.
    pub apiserver_flags: Vec<String>,
}

impl Settings {
    /// The settings of a cluster that one test makes and removes; leftovers are recognised by the owner's pid.
    pub fn of_test(test: &str) -> Result<Self> {
        let name = RunName::new(test);
        Ok(Self {
            name: name.as_str().to_owned(),
            dir: name.dir(),
            bin: bin_dir()?,
            nodes: 3,
            apiserver_flags: Vec::new(),
        })
    }

    pub fn host(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// The path of a component.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.bin.join(name);
        ensure!(path.is_file(), "{name} is not in {BIN}={}", self.bin.display());
        Ok(path)
    }
}

/// `SVC_CLUSTER_BIN`.
pub fn bin_dir() -> Result<PathBuf> {
    let dir = env::var_os(BIN).with_context(|| format!("{BIN} is not set; cargo xtask sets it"))?;
    std::path::absolute(&dir).with_context(|| format!("{BIN}={}", dir.display()))
}
