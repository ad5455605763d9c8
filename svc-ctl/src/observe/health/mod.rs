//! Whether the daemon does its work and whether load balancers may use its node: the rules, and who answers by them.

pub mod answer;
mod listen;
mod ports;
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::model::rejected::Rejected;
use crate::model::warning::Warning;
use crate::reconcile::ReconcileStatus;

/// A change that is not in force after this time: something is wrong (SEM-210).
const OVERDUE_AFTER: Duration = Duration::from_secs(60);
/// Pause before a listener that could not be opened is tried again (SEM-214).
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What health is judged by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// The sources have said everything and the kernel has it.
    pub is_complete: bool,
    /// Milliseconds since 1970: the oldest change that is not in force.
    pub pending_since: Option<u64>,
    /// Milliseconds since 1970: when the tables were last right.
    pub updated: Option<u64>,
    pub is_node_eligible: bool,
}

impl Health {
    fn of(status: &ReconcileStatus) -> Self {
        Self {
            is_complete: status.synced && status.generation > 0,
            pending_since: status.pending_since_unix_ms,
            updated: status.updated_unix_ms,
            is_node_eligible: status.is_node_eligible,
        }
    }

    /// Nothing waits for too long. At the start nothing waits.
    fn is_healthy(&self, now: u64) -> bool {
        let overdue_after = OVERDUE_AFTER.as_millis() as u64;
        self.pending_since.is_none_or(|since| now.saturating_sub(since) <= overdue_after)
    }
}

/// Listeners that could not be opened, by who wants them.
#[derive(Clone, Debug)]
struct Problems(watch::Sender<BTreeMap<&'static str, Vec<Rejected>>>);

impl Problems {
    fn set(&self, who: &'static str, problems: &[Rejected]) {
        self.0.send_if_modified(|all| {
            let old = all.insert(who, problems.to_vec()).unwrap_or_default();
            for new in problems.iter().filter(|p| !old.contains(p)) {
                tracing::warn!(object = %new.object, field = %new.field, reason = %new.reason, "problem");
            }
            old != problems
        });
    }
}

/// Everything that answers questions about health, as long as this is kept.
pub struct Servers {
    tasks: JoinSet<()>,
    problems: watch::Receiver<BTreeMap<&'static str, Vec<Rejected>>>,
}

impl Servers {
    /// Opens what is asked for; what cannot be opened is tried again and again.
    pub fn start(
        healthz: Option<SocketAddr>,
        metrics: Option<SocketAddr>,
        status: &watch::Receiver<ReconcileStatus>,
        warnings: mpsc::Sender<Warning>,
    ) -> Self {
        let (sender, receiver) = watch::channel(BTreeMap::new());
        let (problems, mut tasks) = (Problems(sender), JoinSet::new());
        if let Some(address) = healthz {
            let router = server::health(status);
            tasks.spawn(server::serve("--healthz-bind-address", address, router, problems.clone()));
        }
        if let Some(address) = metrics {
            tasks.spawn(server::serve(
                "--metrics-bind-address",
                address,
                server::metrics(),
                problems.clone(),
            ));
        }
        tasks.spawn(ports::run(status.clone(), problems, warnings));
        Self { tasks, problems: receiver }
    }

    /// Waits until other listeners fail than before, and answers which.
    pub async fn problems(&mut self) -> anyhow::Result<Vec<Rejected>> {
        tokio::select! {
            Ok(()) = self.problems.changed() => {
                Ok(self.problems.borrow_and_update().values().flatten().cloned().collect())
            }
            ended = self.tasks.join_next() => anyhow::bail!("a health server ended: {ended:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
