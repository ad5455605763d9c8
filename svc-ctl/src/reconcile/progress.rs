//! Progress of the loop, and the state that is in force.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use imbl::OrdMap;
use serde::Serialize;
use svc_common::abi::ServicePortId;

use super::durations::Durations;
use crate::model::name::ServicePortKey;
use crate::model::node::NodeAddresses;
use crate::model::world::World;
use crate::plan::affinity::AffinityBackends;
use crate::plan::book::Book;
use crate::plan::serving::Serving;

/// Use of a table.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TableSize {
    pub table: &'static str,
    pub used: u64,
    pub capacity: u64,
    /// A larger table replaces it before it is full.
    pub can_grow: bool,
}

/// Progress of the loop: small, and of the same size whatever the number of Services.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Every source has listed its objects.
    pub synced: bool,
    /// Counts the states of the sources that came completely into force.
    pub generation: u64,
    /// Milliseconds since 1970: the oldest change that is not in force yet.
    pub pending_since_unix_ms: Option<u64>,
    /// Milliseconds since 1970: the newest change.
    pub queued_unix_ms: Option<u64>,
    /// Milliseconds since 1970: when the tables were last found or made correct.
    pub updated_unix_ms: Option<u64>,
    /// Load balancers may send this node new connections (SEM-211).
    pub is_node_eligible: bool,
    pub last_error: Option<String>,
    /// Failed attempts since the start.
    pub failures: u64,
    /// Number of times that the kernel's tables differed from the written entries.
    pub drifts: u64,
    /// Writes to the kernel's tables since the start.
    pub ops: u64,
    /// Times that a Service was planned since the start.
    pub planned: u64,
    /// Number of times that tables were replaced by larger ones since the start.
    pub growths: u64,
    pub sizes: Vec<TableSize>,
    /// Services that wait for room in a table.
    pub unserved: u64,
    /// Changes of Services and EndpointSlices since the start, and how many of them are in force.
    pub changes: Changed,
    pub changes_in_force: Changed,
    /// Durations of the turns that planned something, and of their parts.
    pub turns: Durations,
    pub planning: Durations,
    pub writing: Durations,
}

/// Counts changes of objects.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Changed {
    pub services: u64,
    pub slices: u64,
}

/// The world that is in force.
#[derive(Clone, Debug, Default)]
pub struct Served {
    pub world: World,
    /// Milliseconds since 1970: when the oldest change that came into force with it arrived.
    pub noticed_unix_ms: u64,
    /// Milliseconds since 1970: when the kernel had all of it.
    pub in_force_unix_ms: u64,
}

/// Contents of the kernel's tables, for the sweeper and for `svc-ctl get`. A clone costs nothing.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Endpoints that UDP flows may keep.
    pub serving: Serving,
    /// Session affinity: backends that clients may keep.
    pub affinity_backends: AffinityBackends,
    pub own_addresses: Arc<NodeAddresses>,
    /// Backends that were on this node and are on another one now.
    pub moved_away: Arc<BTreeSet<SocketAddr>>,
    pub services: OrdMap<ServicePortKey, ServicePortId>,
    /// Incremented when a UDP frontend loses an endpoint or an endpoint moves away; only then can a flow or socket be stale.
    /// Zero: nothing is in force.
    pub udp_losses: u64,
    /// Incremented when a service port with session affinity loses an endpoint.
    pub affinity_losses: u64,
}

impl InForce {
    /// The state of a book's plan, once the kernel holds it.
    pub fn of(book: &Book, own_addresses: &Arc<NodeAddresses>) -> Self {
        Self {
            serving: book.serving().clone(),
            affinity_backends: book.affinity_backends().clone(),
            own_addresses: Arc::clone(own_addresses),
            moved_away: Arc::clone(book.moved_away()),
            services: book.services().clone(),
            udp_losses: book.udp_losses(),
            affinity_losses: book.affinity_losses(),
        }
    }
}

/// The time of day, in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
