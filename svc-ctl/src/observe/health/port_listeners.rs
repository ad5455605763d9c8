//! The listeners of health check node ports. Each is open as long as a Service has its port (SEM-201).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use anyhow::Context as _;
use axum::Router;
use imbl::ordmap::DiffItem;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::answer::about_service;
use super::listen::listen;
use super::ports::{HealthPort, HealthPorts, complaint};
use super::{Health, TRY_AGAIN_AFTER};
use crate::model::complaint::{Complaint, Origin};
use crate::model::name::ServiceName;
use crate::observe::ledger::Ledger;
use crate::reconcile::{Progress, unix_ms};

/// Opens and closes listeners until the sender of the ports is dropped.
pub async fn run(
    ports: watch::Receiver<HealthPorts>,
    progress: watch::Receiver<Progress>,
    ledger: Ledger,
) -> anyhow::Result<()> {
    let mut listeners = PortListeners {
        ports,
        progress,
        ledger,
        before: HealthPorts::default(),
        open: BTreeMap::new(),
        failed: BTreeMap::new(),
        complained: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    loop {
        listeners.update();
        tokio::select! {
            changed = listeners.ports.changed() => changed?,
            () = sleep(TRY_AGAIN_AFTER), if !listeners.failed.is_empty() => {}
            Some(ended) = listeners.tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    return Err(error).context("the listener of a health check node port");
                }
            }
        }
    }
}

struct PortListeners {
    ports: watch::Receiver<HealthPorts>,
    progress: watch::Receiver<Progress>,
    ledger: Ledger,
    /// The ports for which listeners were last opened.
    before: HealthPorts,
    open: BTreeMap<SocketAddr, Listener>,
    /// Addresses that failed, with the Service and the reason.
    failed: BTreeMap<SocketAddr, (NonZeroU16, ServiceName, String)>,
    complained: BTreeMap<ServiceName, Vec<Complaint>>,
    tasks: JoinSet<()>,
}

impl PortListeners {
    fn update(&mut self) {
        let now = self.ports.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.before, now.clone());
        let to_retry = std::mem::take(&mut self.failed);
        if before.addresses == now.addresses {
            for item in before.ports.diff(&now.ports) {
                match item {
                    DiffItem::Add(&port, answer) | DiffItem::Update { new: (&port, answer), .. } => {
                        self.open(port, answer);
                    }
                    DiffItem::Remove(&port, _) => self.close(port),
                }
            }
        } else {
            let is_wanted =
                |address: &SocketAddr| now.addresses.as_ref().is_none_or(|all| all.contains(&address.ip()));
            self.open.retain(|address, _| now.addresses.is_some() && is_wanted(address));
            now.ports.iter().for_each(|(&port, answer)| self.open(port, answer));
        }
        for (port, ..) in to_retry.into_values() {
            if let Some(answer) = now.ports.get(&port) {
                self.open(port, answer);
            }
        }
        self.complain(&now);
    }

    /// Opens missing listeners.
    fn open(&mut self, port: NonZeroU16, answer: &HealthPort) {
        for address in self.addresses(port) {
            if self.open.contains_key(&address) {
                continue;
            }
            match listen(address) {
                Ok(listener) => {
                    let listener = self.serve(listener, port, &answer.service);
                    self.open.insert(address, listener);
                    self.failed.remove(&address);
                }
                Err(error) => {
                    let reason = format!("listening on {address}: {error}");
                    self.failed.insert(address, (port, answer.service.clone(), reason));
                }
            }
        }
    }

    fn close(&mut self, port: NonZeroU16) {
        for address in self.addresses(port) {
            self.open.remove(&address);
            self.failed.remove(&address);
        }
    }

    fn addresses(&self, port: NonZeroU16) -> Vec<SocketAddr> {
        match &self.before.addresses {
            Some(addresses) => addresses.iter().map(|&address| (address, port.get()).into()).collect(),
            None => vec![(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port.get()).into()],
        }
    }

    fn serve(&mut self, listener: TcpListener, port: NonZeroU16, opened_for: &ServiceName) -> Listener {
        let (ports, progress, opened_for) = (self.ports.clone(), self.progress.clone(), opened_for.clone());
        let answer = move || {
            let is_healthy = Health::of(&progress.borrow()).is_healthy(unix_ms());
            // The ports may be newer than the listener (SEM-207).
            let now = ports.borrow().ports.get(&port).cloned();
            std::future::ready(match now {
                Some(now) => about_service(&now.service, now.local_endpoints, is_healthy),
                None => about_service(&opened_for, 0, is_healthy),
            })
        };
        let router = Router::new().fallback(answer);
        Listener(self.tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(port, %error, "listening ended");
            }
        }))
    }

    /// Complains of Services whose port belongs to another Service, and of ports that cannot be opened.
    fn complain(&mut self, now: &HealthPorts) {
        let mut complaints: BTreeMap<ServiceName, Vec<Complaint>> = BTreeMap::new();
        let failed =
            self.failed.values().map(|(_, service, reason)| (service, complaint(service, reason.clone())));
        for (service, complaint) in now.complaints().chain(failed) {
            complaints.entry(service.clone()).or_default().push(complaint);
        }
        for service in self.complained.keys().filter(|service| !complaints.contains_key(service)) {
            self.ledger.set(Origin::HealthPort(service.clone()), Vec::new());
        }
        for (service, list) in &complaints {
            if self.complained.get(service) != Some(list) {
                self.ledger.set(Origin::HealthPort(service.clone()), list.clone());
            }
        }
        self.complained = complaints;
    }
}

/// Stops listening when dropped.
struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}
