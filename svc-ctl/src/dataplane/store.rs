//! The interface between the reconcile loop and the kernel's tables.

use std::sync::Arc;

use svc_common::abi::Extent;
use tokio::sync::mpsc;

use crate::plan::capacity::Capacity;
use crate::plan::diff::plan_diff;
use crate::plan::tables::{MapOp, Tables};

/// Why an op failed.
#[derive(Debug, thiserror::Error)]
#[error("{map}: {operation}: {source}")]
pub struct StoreError {
    pub map: &'static str,
    pub operation: String,
    pub source: std::io::Error,
}

/// Typed writes to the tables, and reading them back. The kernel is one implementation; tests have plain maps and a
/// store that fails on schedule.
pub trait MapStore {
    /// Applies ops in order, independently of each other; returns the failed ones by index.
    fn apply(&mut self, ops: &[MapOp]) -> Vec<(usize, StoreError)>;
    /// Reads all tables, to restore them after a restart or to detect drift.
    fn dump(&mut self) -> Result<Tables, StoreError>;
    /// The ops that make these tables equal to `wanted`; `maglev` has the contents of its Maglev tables.
    fn drift(
        &mut self,
        wanted: &Tables,
        maglev: &dyn Fn(Extent) -> Option<Arc<[u16]>>,
    ) -> Result<Vec<MapOp>, StoreError> {
        Ok(plan_diff(&self.dump()?, wanted, maglev))
    }
    /// Maximum number of entries of each table.
    fn capacity(&self) -> Capacity;
    /// Writes `tables` into this store's new, empty tables. The pages of Maglev tables are copied from `old`.
    fn fill_from(&mut self, old: &Self, tables: &Tables) -> Result<(), StoreError>;
}

/// Larger tables with programs over them that are not attached yet: fill them, then swap.
pub struct Staged<S> {
    pub store: S,
    /// Moves every hook to the new programs. After an error the old ones stay.
    pub swap: Box<dyn FnOnce() -> anyhow::Result<()> + Send>,
}

/// Channels for requesting larger tables.
pub struct Growth<S> {
    /// Requests tables of this capacity.
    pub ask: mpsc::UnboundedSender<Capacity>,
    /// One reply per request.
    pub staged: mpsc::Receiver<Result<Staged<S>, String>>,
}
