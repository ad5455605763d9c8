//! The cluster of the show: the one that is up, if svc serves it, or a temporary one.

use std::os::unix::process::CommandExt;

use anyhow::Result;

use super::kubectl::NAMESPACE;
use crate::cleanup::Cleanup;
use crate::cluster::args::{Cni, Dns, Proxy, Up, word};
use crate::cluster::{Cluster, Places, Running, Settings, Steps, preflight};
use crate::command;
use crate::show::screen::Screen;

const OWN: Up =
    Up { nodes: 2, cni: Cni::Ptp, proxy: Proxy::Svc, dns: Dns::Coredns, lenient: false, zones: Vec::new() };

pub(super) struct ShowCluster {
    places: Places,
    nodes: u8,
    settings: Settings,
    own: Option<OwnCluster>,
}

struct OwnCluster {
    // Dropped in this order, before leftovers are swept.
    _cluster: Cluster,
    _cleanup: Cleanup,
}

impl ShowCluster {
    pub(super) fn find(screen: &Screen) -> Result<Self> {
        match Self::lasting()? {
            Some(show_cluster) => {
                screen.say("on the cluster that is up");
                // Leftovers of an earlier, interrupted show.
                let words = ["delete", "namespace", NAMESPACE, "--ignore-not-found"];
                command::run(show_cluster.places.kubectl()?.args(words))?;
                Ok(show_cluster)
            }
            None => Self::make(screen),
        }
    }

    /// The cluster of `cargo xtask cluster up`, if it is running with svc.
    fn lasting() -> Result<Option<Self>> {
        let settings = Settings::lasting()?;
        let is_fit = |running: &Running| running.state.proxy == word(&Proxy::Svc) && running.check().is_ok();
        let running = Running::open(&settings).ok().filter(is_fit);
        Ok(running.map(|running| Self {
            places: running.places(),
            nodes: running.state.nodes,
            settings,
            own: None,
        }))
    }

    fn make(screen: &Screen) -> Result<Self> {
        screen.say(&format!("making a cluster for the show: {}", OWN.words()));
        let cleanup = Cleanup::start()?;
        let settings = Settings::of_test("show")?;
        preflight(&settings, &OWN)?;
        let cluster = Cluster::up(&settings, &OWN, &mut Steps::new(true))?;
        let places = cluster.places();
        let own = Some(OwnCluster { _cluster: cluster, _cleanup: cleanup });
        Ok(Self { places, nodes: OWN.nodes, settings, own })
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn nodes(&self) -> u8 {
        self.nodes
    }
}

impl Drop for ShowCluster {
    /// Removes the show's objects from a lasting cluster.
    fn drop(&mut self) {
        if self.own.is_none() {
            let words = ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"];
            let kubectl = self.places.kubectl();
            // If that fails, the next show removes them.
            let _ = kubectl.map(|mut kubectl| command::run(kubectl.process_group(0).args(words)));
        }
    }
}
