//! The interface between the reconcile loop and the kernel's tables.

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
    /// Applies ops in order and stops at the first that fails; returns how many were applied.
    fn apply(&mut self, ops: &[MapOp]) -> (usize, Result<(), StoreError>);
    /// Reads everything back, as restored after a restart or compared to heal drift.
    fn dump(&mut self) -> Result<Tables, StoreError>;
}
