//! One prober for all nodes: the first node by name with a daemon that answers. The others get its results.
//!
//! Each node looks for itself, and only among nodes whose names come before its own. So nodes cannot wait for each other in a
//! circle, and a node that reaches no such daemon probes by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::heartbeat::{HeartbeatOptions, Peer, retain};
use super::prober::Findings;
use crate::model::complaint::{Complaint, Kind};

mod learn;
mod serve;
mod wire;

pub use wire::Results;

/// Time for which the first list of endpoints waits for the choice of the prober.
const DECIDED_WITHIN: Duration = Duration::from_secs(3);

/// The node that probes.
#[derive(Clone, Debug, Default)]
pub enum Leader {
    /// This node. Also until another one is found.
    #[default]
    Own,
    Other {
        node: String,
        results: Arc<Results>,
    },
}

/// Addresses where results cannot be served, and why.
type Unbound = BTreeMap<SocketAddr, String>;

#[derive(Debug)]
pub struct Sharing {
    options: HeartbeatOptions,
    findings: watch::Receiver<Findings>,
    /// The nodes before this one by name, in that order.
    candidates: Vec<Peer>,
    learner: Option<AbortHandle>,
    /// None until it is decided.
    leader: watch::Sender<Option<Leader>>,
    servers: BTreeMap<SocketAddr, AbortHandle>,
    unbound: watch::Sender<Unbound>,
    bell: Arc<Notify>,
}

impl Sharing {
    pub fn new(options: HeartbeatOptions, findings: watch::Receiver<Findings>, bell: Arc<Notify>) -> Self {
        Self {
            options,
            findings,
            candidates: Vec::new(),
            learner: None,
            leader: watch::Sender::default(),
            servers: BTreeMap::new(),
            unbound: watch::Sender::default(),
            bell,
        }
    }

    /// Takes over the list of all nodes.
    pub fn update(&mut self, nodes: &[&Node]) {
        let (own, others) = self.options.addresses_of(nodes);
        let candidates: Vec<Peer> =
            others.into_iter().filter(|(name, _)| *name < self.options.node).collect();
        if self.learner.is_none() || self.candidates != candidates {
            self.learner.iter().for_each(AbortHandle::abort);
            let learner = learn::run(candidates.clone(), self.leader.clone(), Arc::clone(&self.bell));
            self.learner = Some(tokio::spawn(learner).abort_handle());
            self.candidates = candidates;
        }
        self.servers.retain(|address, task| retain(own.contains(address), task));
        self.unbound.send_modify(|unbound| unbound.retain(|address, _| own.contains(address)));
        for address in own {
            let (findings, unbound) = (self.findings.clone(), self.unbound.clone());
            let serve = || serve::run(address, findings, unbound, Arc::clone(&self.bell));
            self.servers.entry(address).or_insert_with(|| tokio::spawn(serve()).abort_handle());
        }
    }

    /// Waits until the prober is chosen, but not long.
    pub async fn decided(&self) {
        let mut leader = self.leader.subscribe();
        drop(timeout(DECIDED_WITHIN, leader.wait_for(Option::is_some)).await);
    }

    pub fn leader(&self) -> Leader {
        self.leader.borrow().clone().unwrap_or_default()
    }

    pub fn report(&self) -> Vec<Complaint> {
        let own = format!("Node {}", self.options.node);
        let unbound = self.unbound.borrow();
        let complaints = unbound.iter().map(|(address, error)| {
            let reason = format!("results of probes cannot be served at {address}: {error}");
            Complaint::new(Kind::Failed, &own, "", reason)
        });
        complaints.collect()
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.learner.iter().chain(self.servers.values()).for_each(AbortHandle::abort);
    }
}

#[cfg(test)]
mod tests;
