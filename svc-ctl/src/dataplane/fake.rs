//! The tables as plain maps, for tests without a kernel.

use std::io;

use super::store::{MapStore, StoreError};
use crate::plan::capacity::Capacity;
use crate::plan::diff::apply_op;
use crate::plan::tables::{MapOp, Tables};

#[derive(Clone, Debug, Default)]
pub struct FakeStore {
    pub tables: Tables,
    pub capacity: Capacity,
    /// Every op that was applied, in order.
    pub log: Vec<MapOp>,
}

impl FakeStore {
    /// A store that is not empty, as after a restart.
    pub fn holding(tables: Tables) -> Self {
        Self { tables, ..Self::default() }
    }
}

impl MapStore for FakeStore {
    fn apply(&mut self, ops: &[MapOp]) -> Vec<(usize, StoreError)> {
        for op in ops {
            apply_op(&mut self.tables, op);
            self.log.push(op.clone());
        }
        Vec::new()
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        Ok(self.tables.clone())
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn fill_from(&mut self, _: &Self, tables: &Tables) -> Result<(), StoreError> {
        if self.tables != Tables::default() {
            let source = io::Error::other("the new tables are not empty");
            return Err(StoreError { map: "FAKE", operation: "fill".to_owned(), source });
        }
        self.tables = tables.clone();
        Ok(())
    }
}
