//! All observers of health, behind one value and one notification.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Health;
use super::heartbeat::{Heartbeat, HeartbeatOptions};
use super::prober::Prober;
use super::sharing::Sharing;
use crate::model::complaint::Complaint;
use crate::source::manifests::Manifests;

/// The nodes that run the readinessProbes of Pods.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Probes {
    #[default]
    Off,
    /// Each node by itself.
    EachNode,
    /// One node for all. The port of the heartbeats serves its results.
    OneNode,
}

/// Method that finds health.
#[derive(Clone, Debug, Default)]
pub struct HealthOptions {
    pub probes: Probes,
    pub heartbeat: Option<HeartbeatOptions>,
}

#[derive(Debug)]
pub struct Observer {
    bell: Arc<Notify>,
    prober: Option<Prober>,
    sharing: Option<Sharing>,
    heartbeat: Option<Heartbeat>,
}

impl Observer {
    pub fn start(options: &HealthOptions) -> anyhow::Result<Self> {
        let bell = Arc::new(Notify::new());
        let has_probes = options.probes != Probes::Off;
        let prober = has_probes.then(|| Prober::new(Arc::clone(&bell))).transpose()?;
        let sharing = match (&prober, &options.heartbeat) {
            (Some(prober), Some(heartbeat)) if options.probes == Probes::OneNode => {
                Some(Sharing::new(heartbeat.clone(), prober.findings(), Arc::clone(&bell)))
            }
            _ => None,
        };
        let heartbeat = options.heartbeat.clone().map(|options| Heartbeat::new(options, Arc::clone(&bell)));
        Ok(Self { bell, prober, sharing, heartbeat })
    }

    /// Takes over changed manifests. The first call waits a little for the answers of Pods.
    pub async fn update(&mut self, manifests: &Manifests) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.update(&manifests.nodes());
        }
        if let Some(sharing) = &mut self.sharing {
            sharing.update(&manifests.nodes());
            sharing.decided().await;
        }
        self.learn();
        if let Some(prober) = &mut self.prober {
            prober.update(manifests.pods()).await;
        }
    }

    /// Takes over the results of another node.
    pub fn learn(&mut self) {
        if let (Some(sharing), Some(prober)) = (&self.sharing, &mut self.prober) {
            prober.follow(sharing.leader());
        }
    }

    /// Something may have changed since this was last waited for.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    pub fn health(&self) -> Health {
        Health {
            unready: self.prober.as_ref().map(Prober::unready).unwrap_or_default(),
            down: self.heartbeat.as_ref().map(Heartbeat::down).unwrap_or_default(),
        }
    }

    /// Nodes that do not answer heartbeats; none where they are not asked.
    pub fn silent(&self) -> BTreeSet<String> {
        self.heartbeat.as_ref().map(Heartbeat::silent).unwrap_or_default()
    }

    pub fn report(&self) -> Vec<Complaint> {
        let pods = self.prober.as_ref().map(Prober::report);
        let sharing = self.sharing.as_ref().map(Sharing::report);
        let nodes = self.heartbeat.as_ref().map(Heartbeat::report);
        pods.into_iter().chain(sharing).chain(nodes).flatten().collect()
    }
}
