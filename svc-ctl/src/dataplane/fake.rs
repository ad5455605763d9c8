//! The tables as plain maps: the twin of the kernel for tests.

use super::store::{MapStore, StoreError};
use crate::plan::diff::apply_op;
use crate::plan::tables::{MapOp, Tables};

#[derive(Clone, Debug, Default)]
pub struct FakeStore {
    pub tables: Tables,
    /// Every op that was applied, in order.
    pub log: Vec<MapOp>,
}

impl FakeStore {
    /// A store that already holds something, as after a restart.
    pub const fn holding(tables: Tables) -> Self {
        Self { tables, log: Vec::new() }
    }
}

impl MapStore for FakeStore {
    fn apply(&mut self, ops: &[MapOp]) -> (usize, Result<(), StoreError>) {
        for op in ops {
            apply_op(&mut self.tables, op);
            self.log.push(op.clone());
        }
        (ops.len(), Ok(()))
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        Ok(self.tables.clone())
    }
}
