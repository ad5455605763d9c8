//! Stored data of a lasting cluster: its flags and the duration of its start.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::args::{Up, word};
use super::images;
use super::settings::Settings;
use super::steps::{Step, Steps};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The flags that it was made with.
    pub flags: String,
    pub proxy: String,
    pub nodes: u8,
    /// Programs and images that it was made with: path, size and time of each.
    made_of: Vec<String>,
    pub steps: Vec<Step>,
}

impl State {
    pub(super) fn new(settings: &Settings, options: &Up, steps: &Steps) -> Result<Self> {
        Ok(Self {
            flags: options.words(),
            proxy: word(&options.proxy),
            nodes: options.nodes,
            made_of: made_of(settings)?,
            steps: steps.done().to_vec(),
        })
    }

    /// `None` if there is no cluster, or only a part of one.
    pub(super) fn read(settings: &Settings) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(settings)).ok()?).ok()
    }

    /// Called last at a start: a cluster without this file is incomplete.
    pub(super) fn write(&self, settings: &Settings) -> Result<()> {
        let path = path(settings);
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("write {}", path.display()))
    }

    /// The same settings and options would make the same cluster.
    pub(super) fn is_of(&self, settings: &Settings, options: &Up) -> bool {
        self.flags == options.words() && made_of(settings).is_ok_and(|now| now == self.made_of)
    }
}

fn path(settings: &Settings) -> PathBuf {
    settings.dir.join("state.json")
}

fn made_of(settings: &Settings) -> Result<Vec<String>> {
    let programs = ["kube-apiserver", "kubelet", "containerd"].map(|name| settings.bin.join(name));
    let images = images::archives(&settings.images)?;
    programs.iter().chain(&images).map(|path| fingerprint(path)).collect()
}

fn fingerprint(path: &Path) -> Result<String> {
    let data = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    Ok(format!("{} {} {:?}", path.display(), data.len(), data.modified()?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cluster::args::{Cli, Command};

    fn up(flags: &str) -> Up {
        match Cli::parse_from("svc-cluster up".split(' ').chain(flags.split_whitespace())).command {
            Command::Up(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_flags_that_are_shown_make_the_same_cluster() {
        for flags in
            ["", "--nodes 3 --zones a,b --lenient", "--cni bridge --proxy kube-proxy-iptables", "--dns svc"]
        {
            let shown = up(flags).words();
            assert_eq!(up(&shown).words(), shown);
        }
        assert_eq!(up("").words(), "--nodes 2 --cni ptp --proxy svc");
    }
}
