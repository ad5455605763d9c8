//! The cluster that the show is on: the one that is up, if svc serves it, or one of the show's own that ends with it.

use std::os::unix::process::CommandExt;

use anyhow::Result;

use super::kubectl::NAMESPACE;
use crate::cluster::args::{Cni, Proxy, Up, word};
use crate::cluster::{Cluster, Places, Running, Settings, Steps, preflight};
use crate::command;
use crate::janitor::Janitor;
use crate::show::screen::Screen;

const OWN: Up = Up { nodes: 2, cni: Cni::Ptp, proxy: Proxy::Svc, lenient: false, zones: Vec::new() };

pub(super) struct Ground {
    places: Places,
    nodes: u8,
    settings: Settings,
    own: Option<Own>,
}

struct Own {
    // Dropped in this order: what the janitor would remove goes by itself.
    _cluster: Cluster,
    _janitor: Janitor,
}

impl Ground {
    pub(super) fn find(screen: &Screen) -> Result<Self> {
        match Self::lasting()? {
            Some(ground) => {
                screen.say("on the cluster that is up");
                // What an earlier show left that did not end as it should.
                let words = ["delete", "namespace", NAMESPACE, "--ignore-not-found"];
                command::run(ground.places.kubectl()?.args(words))?;
                Ok(ground)
            }
            None => Self::make(screen),
        }
    }

    /// The cluster of `cargo xtask cluster up`, if it lives and svc is in it.
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
        let janitor = Janitor::start()?;
        let settings = Settings::of_test("show")?;
        preflight(&settings, &OWN)?;
        let cluster = Cluster::up(&settings, &OWN, &mut Steps::new(true))?;
        let places = cluster.places();
        let own = Some(Own { _cluster: cluster, _janitor: janitor });
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

impl Drop for Ground {
    /// A cluster that stays keeps nothing of the show.
    fn drop(&mut self) {
        if self.own.is_none() {
            let words = ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"];
            let kubectl = self.places.kubectl();
            // The next show removes what could not be removed now.
            let _ = kubectl.map(|mut kubectl| command::run(kubectl.process_group(0).args(words)));
        }
    }
}
