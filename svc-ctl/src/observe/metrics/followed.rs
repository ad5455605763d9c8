//! Metrics that compare one world in force with the next. A task updates them at a cost in proportion to the change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::page::Classes;
use super::programming::Programming;
use crate::model::endpoint::{Endpoint, port_endpoints};
use crate::model::name::{IpFamily, ServiceName};
use crate::model::service::Service;
use crate::model::world::World;
use crate::reconcile::{Durations, Served};

/// The traffic policies that are `Local`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Policy {
    Internal,
    External,
}

/// Counts that follow from the worlds so far. A clone shares them.
#[derive(Clone, Debug)]
pub struct Followed(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    programming: Programming,
    /// Ports without an endpoint on this node, of Services that have any.
    no_local: BTreeMap<ServiceName, BTreeMap<(Policy, IpFamily), usize>>,
    before: World,
}

impl Followed {
    /// Changes of Pods before `start_unix_ms` are not measured: the daemon was not there.
    pub fn new(start_unix_ms: u64) -> Self {
        let programming = Programming::since(start_unix_ms);
        let state = State { programming, no_local: BTreeMap::new(), before: World::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Follows worlds until none is published any more.
    pub async fn run(self, mut served: watch::Receiver<Served>) -> anyhow::Result<()> {
        loop {
            served.changed().await?;
            let now = served.borrow_and_update().clone();
            self.update(now);
        }
    }

    pub fn update(&self, now: Served) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut state.before);
        state.programming.observe(&before, &now);
        let changed: BTreeSet<ServiceName> = match now.world.node.name == before.node.name {
            true => now.world.changed_services(&before),
            false => now.world.services.keys().cloned().collect(),
        };
        for name in changed {
            let lacking = now.world.services.get(&name).map(|service| lacking(&now.world, service));
            match lacking.filter(|ports| !ports.is_empty()) {
                Some(ports) => drop(state.no_local.insert(name, ports)),
                None => drop(state.no_local.remove(&name)),
            }
        }
        state.before = now.world;
    }

    /// By family, in the order of [`IpFamily::ALL`].
    pub fn programming(&self) -> [Classes; 2] {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).programming.by_family()
    }

    /// From a change until the daemon took it.
    pub fn noticing(&self) -> Durations {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).programming.noticing()
    }

    pub fn without_local_endpoints(&self) -> Vec<((Policy, IpFamily), usize)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |key| (key, state.no_local.values().filter_map(|ports| ports.get(&key)).sum());
        IpFamily::ALL
            .into_iter()
            .flat_map(|family| [(Policy::External, family), (Policy::Internal, family)])
            .map(count)
            .collect()
    }
}

/// Ports of a Service that have endpoints, and none on this node, by policy and family (PAR-155).
fn lacking(world: &World, service: &Service) -> BTreeMap<(Policy, IpFamily), usize> {
    let is_usable = |endpoint: &Endpoint| endpoint.ready || (endpoint.serving && endpoint.terminating);
    let node = Some(&world.node.name);
    let mut lacking = BTreeMap::new();
    if !service.internal_local && !service.external_local {
        return lacking;
    }
    for (addresses, port) in service.families.iter().flat_map(|f| service.ports.iter().map(move |p| (f, p))) {
        let family = addresses.family();
        let endpoints = port_endpoints(world.slices_of(&service.name), family, &port.name, port.proto);
        let mut usable = endpoints.iter().map(|e| e.endpoint).filter(|e| is_usable(e)).peekable();
        if usable.peek().is_none() || usable.any(|endpoint| endpoint.node.as_ref() == node) {
            continue;
        }
        if service.internal_local {
            *lacking.entry((Policy::Internal, family)).or_default() += 1;
        }
        if service.external_local && port.is_externally_accessible(addresses) {
            *lacking.entry((Policy::External, family)).or_default() += 1;
        }
    }
    lacking
}
