//! Health of the daemon and eligibility of its node for load balancers: the rules, and the servers.

pub mod answer;
mod listen;
mod port_listeners;
pub mod ports;
mod server;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};

use self::ports::HealthPorts;
use super::inspect::{self, Inspected};
use super::ledger::Ledger;
use super::listeners::Listeners;
use crate::parts::Parts;
use crate::programs::HooksStatus;
use crate::reconcile::Progress;

/// A change that is not in force after this time means that something is wrong (SEM-210).
const OVERDUE_AFTER: Duration = Duration::from_secs(60);
/// Pause before a failed listener is opened again (SEM-214).
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Facts that decide the health.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Every source has listed its objects, the kernel has all of it, and the programs are attached.
    pub is_complete: bool,
    /// Milliseconds since 1970: the oldest change that is not in force.
    pub pending_since: Option<u64>,
    /// Milliseconds since 1970: when the tables were last correct.
    pub updated: Option<u64>,
    pub is_node_eligible: bool,
}

impl Health {
    fn of(progress: &Progress) -> Self {
        Self {
            is_complete: progress.synced && progress.generation > 0,
            pending_since: progress.pending_since_unix_ms,
            updated: progress.updated_unix_ms,
            is_node_eligible: progress.is_node_eligible,
        }
    }

    /// No change is overdue. At the start no change is pending.
    fn is_healthy(&self, now: u64) -> bool {
        let overdue_after = OVERDUE_AFTER.as_millis() as u64;
        self.pending_since.is_none_or(|since| now.saturating_sub(since) <= overdue_after)
    }
}

const HEALTHZ: &str = "--healthz-bind-address";
const METRICS: &str = "--metrics-bind-address";

/// Addresses of the health servers.
#[derive(Clone, Debug, Default)]
pub struct HealthSettings {
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    /// An address in use ends the daemon (SEM-214).
    pub is_hard_fail: bool,
}

impl HealthSettings {
    /// One port cannot serve both: the kubelet and load balancers ask at `healthz`, so that one is opened.
    fn separate(self, listeners: &Listeners) -> Self {
        let (Some(healthz), Some(metrics)) = (self.healthz, self.metrics) else { return self };
        let is_same_ip =
            healthz.ip() == metrics.ip() || [healthz, metrics].iter().any(|a| a.ip().is_unspecified());
        if healthz.port() != metrics.port() || !is_same_ip {
            return self;
        }
        let reason = format!("{HEALTHZ} {healthz} has this port too: give one of them another port");
        listeners.refused(METRICS, &metrics.to_string(), reason);
        Self { metrics: None, ..self }
    }
}

/// All servers that answer questions about health. On a thread of their own, so that no other task delays them.
pub struct Servers(oneshot::Receiver<anyhow::Error>);

impl Servers {
    /// Opens the listeners; one that cannot be opened is retried. Must run in a tokio runtime.
    pub fn start(
        settings: &HealthSettings,
        progress: watch::Receiver<Progress>,
        hooks: &watch::Receiver<HooksStatus>,
        health_ports: watch::Receiver<HealthPorts>,
        ledger: &Ledger,
        listeners: Listeners,
        inspected: Inspected,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("making the runtime of health checks")?;
        let (ends, ended) = oneshot::channel();
        let ledger = ledger.clone();
        let HealthSettings { healthz, metrics, is_hard_fail } = settings.clone().separate(&listeners);
        let router = server::health(&progress, hooks, &inspected.metrics.health);
        let work = move || {
            let result = runtime.block_on(async {
                let mut parts = Parts::default();
                if let Some(address) = healthz {
                    parts.spawn(
                        "the health port",
                        server::serve(HEALTHZ, address, router, listeners.clone(), is_hard_fail),
                    );
                }
                if let Some(address) = metrics {
                    let router = inspect::router(inspected);
                    parts.spawn(
                        "the metrics port",
                        server::serve(METRICS, address, router, listeners, is_hard_fail),
                    );
                }
                let ports = port_listeners::run(health_ports, progress, ledger);
                parts.spawn("answering at health check node ports", ports);
                parts.ended().await
            });
            let _ = ends.send(result);
        };
        thread::Builder::new().name("svc-health".to_owned()).spawn(work).context("starting health checks")?;
        Ok(Self(ended))
    }

    /// Waits until a server ends, also by a panic, and returns the reason.
    pub async fn ended(self) -> anyhow::Result<()> {
        Err(self.0.await.unwrap_or_else(|_| anyhow::anyhow!("the thread panicked")))
    }
}

#[cfg(test)]
mod tests;
