//! What the loop tells about itself, and what is in force.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use imbl::OrdMap;
use serde::Serialize;
use svc_common::abi::ServiceId;

use super::durations::Durations;
use crate::model::name::ServicePortKey;
use crate::model::node::NodeAddresses;
use crate::model::world::World;
use crate::plan::book::Book;
use crate::plan::serving::Serving;
use crate::plan::stays::Stays;

/// How full a table is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TableSize {
    pub table: &'static str,
    pub used: u64,
    pub capacity: u64,
    /// A larger table takes its place before it is full.
    pub can_grow: bool,
}

/// How far the loop is: small, and the same size whatever there is to serve.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Every source has said all it knows.
    pub synced: bool,
    /// Counts the states of the sources that are completely in force in the kernel.
    pub generation: u64,
    /// Milliseconds since 1970: the oldest change that is not in force yet.
    pub pending_since_unix_ms: Option<u64>,
    /// Milliseconds since 1970: the newest change.
    pub queued_unix_ms: Option<u64>,
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
    /// Times that a Service was planned since the start.
    pub planned: u64,
    /// Times that tables were replaced by larger ones since the start.
    pub growths: u64,
    pub sizes: Vec<TableSize>,
    /// Services that wait for room in a table.
    pub unserved: u64,
    /// What sources have said about Services and EndpointSlices since the start, and how much of it is in force.
    pub changes: Changed,
    pub changes_in_force: Changed,
    /// Turns that planned something, and their parts.
    pub turns: Durations,
    pub planning: Durations,
    pub writing: Durations,
}

/// Counts objects that sources have said something about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Changed {
    pub services: u64,
    pub slices: u64,
}

/// The world that is in force.
#[derive(Clone, Debug, Default)]
pub struct Served {
    pub world: World,
    /// Milliseconds since 1970: when the oldest change was taken that came into force with it.
    pub noticed_unix_ms: u64,
    /// Milliseconds since 1970: when the kernel had all of it.
    pub in_force_unix_ms: u64,
}

/// What the kernel's tables hold, for the sweeper and for `svc-ctl get`. A clone costs nothing.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Where UDP flows may stay.
    pub serving: Serving,
    /// Where clients with session affinity may stay.
    pub stays: Stays,
    pub own_addresses: Arc<NodeAddresses>,
    pub services: OrdMap<ServicePortKey, ServiceId>,
    /// Grows when a UDP frontend lost an endpoint: only then may a flow or socket be stale. Zero: nothing is in force.
    pub udp_losses: u64,
    /// Grows when a service port with session affinity lost an endpoint.
    pub affinity_losses: u64,
}

impl InForce {
    /// What a book has planned, once the kernel holds it.
    pub fn of(book: &Book, own_addresses: &Arc<NodeAddresses>) -> Self {
        Self {
            serving: book.serving().clone(),
            stays: book.stays().clone(),
            own_addresses: Arc::clone(own_addresses),
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
