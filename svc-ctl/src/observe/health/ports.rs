//! Health check node ports: a listener each, kept as long as its Service wants it (SEM-201).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::answer::about_service;
use super::listen::listen;
use super::{Health, Problems, TRY_AGAIN_AFTER};
use crate::model::name::ServiceName;
use crate::model::rejected::Rejected;
use crate::model::warning::{Reason, Warning};
use crate::plan::health_ports::HealthPorts;
use crate::reconcile::{ReconcileStatus, unix_ms};

/// Opens and closes listeners as the plan says, until the reconcile loop is gone.
pub async fn run(
    mut status: watch::Receiver<ReconcileStatus>,
    problems: Problems,
    warnings: mpsc::Sender<Warning>,
) {
    let mut open: BTreeMap<SocketAddr, Listener> = BTreeMap::new();
    let mut failed: Vec<Failure> = Vec::new();
    loop {
        let plan = status.borrow_and_update().health_ports.clone();
        let wanted = addresses(&plan);
        open.retain(|address, _| wanted.contains_key(address));
        let before = std::mem::take(&mut failed);
        for (address, (port, service)) in wanted {
            if open.contains_key(&address) {
                continue;
            }
            match listen(address) {
                Ok(listener) => drop(open.insert(address, Listener::start(listener, port, service, &status))),
                Err(error) => failed.push(Failure {
                    service: service.clone(),
                    reason: format!("listening on {address}: {error}"),
                }),
            }
        }
        problems.set("health check node ports", &failed.iter().map(Failure::rejected).collect::<Vec<_>>());
        for new in failed.iter().filter(|f| !before.contains(f)) {
            // Where nobody takes them, or too many are waiting, the status has it all the same.
            drop(warnings.try_send(new.warning()));
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = sleep(TRY_AGAIN_AFTER), if !failed.is_empty() => {}
        }
    }
}

fn addresses(plan: &HealthPorts) -> BTreeMap<SocketAddr, (NonZeroU16, &ServiceName)> {
    let everywhere = BTreeSet::from([IpAddr::V6(Ipv6Addr::UNSPECIFIED)]);
    let at = plan.addresses.as_ref().unwrap_or(&everywhere);
    let ports = plan.ports.iter();
    ports
        .flat_map(|(&port, p)| at.iter().map(move |&a| ((a, port.get()).into(), (port, &p.service))))
        .collect()
}

/// A port that could not be opened.
#[derive(PartialEq)]
struct Failure {
    service: ServiceName,
    reason: String,
}

impl Failure {
    fn rejected(&self) -> Rejected {
        Rejected::of_service(&self.service, "spec.healthCheckNodePort", self.reason.as_str())
    }

    fn warning(&self) -> Warning {
        let (service, note) = (self.service.clone(), format!("healthCheckNodePort: {}", self.reason));
        Warning { service, reason: Reason::HealthPort, note }
    }
}

/// Ends when dropped.
struct Listener(JoinHandle<()>);

impl Listener {
    fn start(
        listener: TcpListener,
        port: NonZeroU16,
        opened_for: &ServiceName,
        status: &watch::Receiver<ReconcileStatus>,
    ) -> Self {
        let (status, opened_for) = (status.clone(), opened_for.clone());
        let answer = move || {
            let status = status.borrow();
            let is_healthy = Health::of(&status).is_healthy(unix_ms());
            // The plan may be newer than the listener (SEM-207).
            let answer = match status.health_ports.ports.get(&port) {
                Some(now) => about_service(&now.service, now.local_endpoints, is_healthy),
                None => about_service(&opened_for, 0, is_healthy),
            };
            std::future::ready(answer)
        };
        let router = Router::new().fallback(answer);
        Self(tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(port, %error, "listening ended");
            }
        }))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}
