//! Everything that looks after health, behind one value and one bell.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Health;
use super::heartbeat::{Heartbeat, HeartbeatOptions};
use super::prober::Prober;
use crate::model::complaint::Complaint;
use crate::source::manifests::Manifests;

/// How health is found out.
#[derive(Clone, Debug, Default)]
pub struct HealthOptions {
    /// Pods are probed as their readinessProbes say.
    pub has_probes: bool,
    pub heartbeat: Option<HeartbeatOptions>,
}

#[derive(Debug)]
pub struct Observer {
    bell: Arc<Notify>,
    prober: Option<Prober>,
    heartbeat: Option<Heartbeat>,
}

impl Observer {
    pub fn start(options: &HealthOptions) -> anyhow::Result<Self> {
        let bell = Arc::new(Notify::new());
        let prober = options.has_probes.then(|| Prober::new(Arc::clone(&bell))).transpose()?;
        let heartbeat = options.heartbeat.clone().map(|options| Heartbeat::new(options, Arc::clone(&bell)));
        Ok(Self { bell, prober, heartbeat })
    }

    /// The manifests have changed. The first time this waits a little for what Pods answer.
    pub async fn update(&mut self, manifests: &Manifests) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.update(&manifests.nodes());
        }
        if let Some(prober) = &mut self.prober {
            prober.update(manifests.pods()).await;
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
        let nodes = self.heartbeat.as_ref().map(Heartbeat::report);
        pods.into_iter().chain(nodes).flatten().collect()
    }
}
