//! Channels by which the loop receives changes and publishes results.

use tokio::sync::{mpsc, watch};

use super::progress::{InForce, Progress, Served};
use crate::dataplane::store::Growth;
use crate::model::node::NodeAddresses;
use crate::model::world::World;
use crate::observe::ledger::Ledger;
use crate::plan::settings::Settings;
use crate::source::event::Batch;

/// Called when everything is in force for the first time, and again after pauses until it succeeds.
pub type FirstSwap = Box<dyn FnMut() -> anyhow::Result<()> + Send>;

/// Sources of changes.
pub struct Inputs<S> {
    pub events: mpsc::Receiver<Batch>,
    /// The node's addresses. Nothing is planned before they are known.
    pub addresses: watch::Receiver<Option<NodeAddresses>>,
    /// Settings of the plan.
    pub settings: watch::Receiver<Settings>,
    /// `None`: the tables keep their size.
    pub growth: Option<Growth<S>>,
    /// Attaches programs that must not run over empty tables.
    pub first_swap: Option<FirstSwap>,
}

/// Channels for the loop's results.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    pub progress: watch::Sender<Progress>,
    /// The sources' current world, planned or not.
    pub world: watch::Sender<World>,
    pub in_force: watch::Sender<InForce>,
    /// The last world that was completely in force.
    pub served: watch::Sender<Served>,
    pub ledger: Ledger,
}
