//! The one loop that makes the kernel's tables what the sources want: await, plan, diff, apply, tell.
//!
//! The first change is acted on at once; what arrives meanwhile is taken together. A failed write is tried again with
//! growing pauses and after reading back what the kernel really holds; drift is healed by a full comparison from time
//! to time. Until all sources have said everything, nothing is written at all: what was restored stays in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use svc_common::abi::ServiceId;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::dataplane::store::MapStore;
use crate::model::name::{IpFamily, ServicePortKey};
use crate::model::node::NodeAddresses;
use crate::model::rejected::Rejected;
use crate::model::store::{Snapshot, Store};
use crate::model::warning::Warning;
use crate::plan::desired::{Settings, plan_tables};
use crate::plan::diff::{apply_op, plan_diff};
use crate::plan::health_ports::{HealthPorts, plan_health_ports};
use crate::plan::ids::{Capacity, Ids};
use crate::plan::serving::Serving;
use crate::plan::stays::Stays;
use crate::plan::tables::Tables;
use crate::plan::tick::Tick;
use crate::plan::warnings::plan_warnings;
use crate::source::event::Batch;

/// Pause after the first failure; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often everything is read back and compared.
const COMPARE_PERIOD: Duration = Duration::from_secs(30);

/// Where changes come from.
#[derive(Debug)]
pub struct Inputs {
    pub events: mpsc::Receiver<Batch>,
    pub addresses: watch::Receiver<NodeAddresses>,
}

/// What does not change while the loop runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub node_name: String,
    pub settings: Settings,
    pub capacity: Capacity,
}

/// How full a table is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TableSize {
    pub table: &'static str,
    pub used: u64,
    pub capacity: u64,
}

/// What the loop tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReconcileStatus {
    /// Every source has said all it knows.
    pub synced: bool,
    /// Counts the states of the sources that are completely in force in the kernel.
    pub generation: u64,
    /// Milliseconds since 1970: the oldest change that is not in force yet.
    pub pending_since_unix_ms: Option<u64>,
    /// Milliseconds since 1970: when the tables were last found or made right.
    pub updated_unix_ms: Option<u64>,
    /// Load balancers may send this node new connections (SEM-211).
    pub is_node_eligible: bool,
    pub last_error: Option<String>,
    /// Failed attempts since the start.
    pub failures: u64,
    /// Times that the kernel's tables were not what had been written.
    pub drifts: u64,
    /// Writes to the kernel's tables since the start.
    pub ops: u64,
    pub sizes: Vec<TableSize>,
    pub rejected: Vec<Rejected>,
    /// What the kernel holds.
    #[serde(skip)]
    pub tables: Arc<Tables>,
    /// Where UDP flows may stay, by what the kernel holds.
    #[serde(skip)]
    pub serving: Arc<Serving>,
    /// Where clients may stay, by what the kernel holds; nothing before it holds what the sources want.
    #[serde(skip)]
    pub stays: Option<Arc<Stays>>,
    #[serde(skip)]
    pub services: Arc<BTreeMap<ServiceId, ServicePortKey>>,
    #[serde(skip)]
    pub health_ports: Arc<HealthPorts>,
    /// What the owners of Services should hear.
    #[serde(skip)]
    pub warnings: Arc<BTreeSet<Warning>>,
}

/// Runs for ever; drop it to stop, nothing is left half done.
pub async fn run<S: MapStore>(
    mut inputs: Inputs,
    maps: S,
    options: Options,
    status: watch::Sender<ReconcileStatus>,
) {
    let mut state = Reconciler::new(maps, options, status);
    state.model.set_addresses(inputs.addresses.borrow_and_update().clone());
    state.turn();
    loop {
        let wake = state.wake_at();
        let Inputs { events, addresses } = &mut inputs;
        tokio::select! {
            Some(batch) = events.recv() => state.take(batch),
            Ok(()) = addresses.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
        while let Ok(batch) = events.try_recv() {
            state.take(batch);
        }
        state.model.set_addresses(addresses.borrow_and_update().clone());
        state.turn();
    }
}

struct Reconciler<S> {
    maps: S,
    options: Options,
    sender: watch::Sender<ReconcileStatus>,
    status: ReconcileStatus,
    model: Store,
    snapshot: Option<Snapshot>,
    /// What the kernel holds; unknown after a failed write, until it is read back.
    actual: Option<Tables>,
    ids: Option<Ids>,
    problems: Vec<Rejected>,
    start: Instant,
    next_compare: Instant,
    /// Set after a failure.
    retry: Option<(Instant, Duration)>,
}

impl<S: MapStore> Reconciler<S> {
    fn new(maps: S, options: Options, sender: watch::Sender<ReconcileStatus>) -> Self {
        let start = Instant::now();
        Self {
            maps,
            model: Store::new(&options.node_name),
            options,
            sender,
            status: ReconcileStatus::default(),
            snapshot: None,
            actual: None,
            ids: None,
            problems: Vec::new(),
            start,
            next_compare: start + COMPARE_PERIOD,
            retry: None,
        }
    }

    fn take(&mut self, batch: Batch) {
        for event in batch {
            self.model.take(event);
        }
    }

    fn wake_at(&self) -> Instant {
        // A comparison that is due and fails must wait like any other failure.
        self.retry.map_or(self.next_compare, |(at, _)| at)
    }

    /// One attempt to make everything right, and what came of it.
    fn turn(&mut self) {
        match self.try_turn() {
            Ok(()) => {
                self.retry = None;
                self.status.last_error = None;
            }
            Err(error) => {
                tracing::warn!(%error, "reconcile failed; it is tried again");
                let pause = self.retry.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
                self.retry = Some((Instant::now() + pause, pause));
                self.status.failures += 1;
                self.status.last_error = Some(error);
            }
        }
        self.tell();
    }

    fn try_turn(&mut self) -> Result<(), String> {
        self.status.synced = self.model.is_synced();
        let changed = self.model.is_dirty() || self.snapshot.is_none();
        if changed && self.status.synced {
            self.status.pending_since_unix_ms.get_or_insert_with(unix_ms);
            self.snapshot = self.model.snapshot();
            self.status.is_node_eligible = self.snapshot.as_ref().is_some_and(|s| s.node.is_eligible);
            // Who asks about health sees it even if the next write never comes back.
            self.sender.send_if_modified(|told| {
                told.pending_since_unix_ms = self.status.pending_since_unix_ms;
                told.is_node_eligible = self.status.is_node_eligible;
                false
            });
        }
        let compare = Instant::now() >= self.next_compare;
        if compare || self.actual.is_none() {
            self.read_back()?;
        }
        // A failed attempt and a full table are reasons to plan again as well.
        let is_due =
            changed || compare || self.retry.is_some() || self.status.pending_since_unix_ms.is_some();
        if let (Some(snapshot), true) = (self.snapshot.clone(), is_due) {
            self.plan_and_apply(&snapshot)?;
        }
        Ok(())
    }

    /// What the kernel really holds. At first it is adopted as it is.
    fn read_back(&mut self) -> Result<(), String> {
        let dump = self.maps.dump().map_err(|e| e.to_string())?;
        self.next_compare = Instant::now() + COMPARE_PERIOD;
        if self.ids.is_none() {
            self.ids = Some(Ids::restored(&dump, self.options.capacity));
        }
        if self.actual.as_ref().is_some_and(|actual| *actual != dump) {
            tracing::warn!("the kernel's tables were changed by somebody else; healing");
            self.status.drifts += 1;
        }
        self.actual = Some(dump);
        Ok(())
    }

    fn plan_and_apply(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let unread = || "the kernel's tables have not been read".to_owned();
        let actual = self.actual.as_mut().ok_or_else(unread)?;
        let ids = self.ids.take().ok_or_else(unread)?;
        let now = Tick(self.start.elapsed().as_secs());
        let mut planned = plan_tables(snapshot, &self.options.settings, actual, ids, now);
        let (health_ports, clashes) = plan_health_ports(snapshot, &self.options.settings.node_port_addresses);
        planned.problems.extend(clashes);
        for problem in planned.problems.iter().filter(|p| !self.problems.contains(p)) {
            tracing::warn!(object = %problem.object, field = %problem.field, reason = %problem.reason, "problem");
        }
        self.problems = planned.problems;
        let ids = self.ids.insert(planned.ids);
        let ops = plan_diff(actual, &planned.tables);
        let (done, result) = self.maps.apply(&ops);
        ops.iter().take(done).for_each(|op| apply_op(actual, op));
        self.status.ops += done as u64;
        if let Err(error) = result {
            // Nobody knows what the failed write has left behind.
            self.actual = None;
            return Err(error.to_string());
        }
        ids.release(now);
        if *self.status.serving != planned.serving {
            self.status.serving = Arc::new(planned.serving);
        }
        if self.status.stays.as_deref() != Some(&planned.stays) {
            self.status.stays = Some(Arc::new(planned.stays));
        }
        self.status.services = Arc::new(ids.services().iter().map(|(key, &id)| (id, key.clone())).collect());
        if *self.status.health_ports != health_ports {
            self.status.health_ports = Arc::new(health_ports);
        }
        let warnings = plan_warnings(snapshot);
        if *self.status.warnings != warnings {
            self.status.warnings = Arc::new(warnings);
        }
        self.status.updated_unix_ms = Some(unix_ms());
        if self.status.pending_since_unix_ms.take().is_some() {
            self.status.generation += 1;
            tracing::debug!(generation = self.status.generation, ops = done, "applied");
        }
        if planned.is_full {
            return Err("a table is full".to_owned());
        }
        Ok(())
    }

    fn tell(&mut self) {
        if let Some(actual) = &self.actual
            && *self.status.tables != *actual
        {
            self.status.tables = Arc::new(actual.clone());
        }
        self.status.sizes = sizes(&self.status.tables, &self.options.capacity);
        self.status.rejected = self.model.rejected();
        self.status.rejected.extend(self.problems.iter().cloned());
        self.sender.send_if_modified(|told| {
            let changed = *told != self.status;
            if changed {
                told.clone_from(&self.status);
            }
            changed
        });
    }
}

/// The time of day, in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn sizes(tables: &Tables, capacity: &Capacity) -> Vec<TableSize> {
    let size = |table, used: usize, capacity: u32| TableSize {
        table,
        used: used as u64,
        capacity: u64::from(capacity),
    };
    let of = |family: IpFamily| move |addr: std::net::IpAddr| IpFamily::of(addr) == family;
    let frontends = |f| tables.frontends.keys().filter(|k| of(f)(k.addr)).count();
    let addrs = |f| tables.addresses.keys().filter(|a| of(f)(**a)).count();
    let selection = tables.extents.keys().map(|e| e.count as usize).sum();
    vec![
        size("frontends (IPv4)", frontends(IpFamily::V4), capacity.frontends),
        size("frontends (IPv6)", frontends(IpFamily::V6), capacity.frontends),
        size("backends", tables.backends.len(), capacity.backends),
        size("selection", selection, capacity.selection),
        size("node addresses (IPv4)", addrs(IpFamily::V4), capacity.addresses),
        size("node addresses (IPv6)", addrs(IpFamily::V6), capacity.addresses),
    ]
}

#[cfg(test)]
mod tests;
