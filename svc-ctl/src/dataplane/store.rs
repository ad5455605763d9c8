//! The interface between the reconcile loop and the kernel's tables.

use std::sync::Arc;

use svc_common::abi::Extent;
use tokio::sync::mpsc;

use crate::plan::capacity::Capacity;
use crate::plan::diff::plan_diff;
use crate::plan::tables::{MapOp, Tables};

/// Why an op could not be applied.
#[derive(Debug, thiserror::Error)]
#[error("{map}: {operation}: {source}")]
pub struct StoreError {
    pub map: &'static str,
    pub operation: String,
    pub source: std::io::Error,
}

/// Typed writes to the tables and their dump. The kernel is one implementation; tests have a map twin and one that
/// fails on schedule.
pub trait MapStore {
    /// Applies ops in order, each by itself; answers those that failed, by index.
    fn apply(&mut self, ops: &[MapOp]) -> Vec<(usize, StoreError)>;
    /// Reads everything back, as restored after a restart or compared to heal drift.
    fn dump(&mut self) -> Result<Tables, StoreError>;
    /// The ops that make these tables equal to `wanted`; `maglev` has the places of its Maglev tables.
    fn drift(
        &mut self,
        wanted: &Tables,
        maglev: &dyn Fn(Extent) -> Option<Arc<[u16]>>,
    ) -> Result<Vec<MapOp>, StoreError> {
        Ok(plan_diff(&self.dump()?, wanted, maglev))
    }
    /// How many entries each table can hold.
    fn capacity(&self) -> Capacity;
    /// Writes `tables` into these tables, which are new and empty. The pages of Maglev tables are copied from `old`.
    fn fill_from(&mut self, old: &Self, tables: &Tables) -> Result<(), StoreError>;
}

/// Larger tables with programs over them, which are attached nowhere yet: fill them, then swap.
pub struct Staged<S> {
    pub store: S,
    /// Moves every hook to the new programs. If it fails the old ones go on.
    pub swap: Box<dyn FnOnce() -> anyhow::Result<()> + Send>,
}

/// The way to larger tables.
pub struct Growth<S> {
    /// Asks for tables of this capacity.
    pub ask: mpsc::UnboundedSender<Capacity>,
    /// One answer to each question.
    pub staged: mpsc::Receiver<Result<Staged<S>, String>>,
}
