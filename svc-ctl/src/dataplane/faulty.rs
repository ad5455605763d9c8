//! A wrapper of a store that fails on schedule.

use std::io;

use super::store::{MapStore, StoreError};
use crate::plan::capacity::Capacity;
use crate::plan::tables::{MapOp, Tables};

/// Fails one op in every `period` (never if 0), and the next `dumps_to_fail` dumps.
#[derive(Clone, Debug)]
pub struct FaultyStore<S> {
    pub inner: S,
    pub period: usize,
    pub dumps_to_fail: usize,
    /// Ops whose text contains this always fail.
    pub poison: Option<String>,
    /// Number of failures so far.
    pub failures: usize,
    calls: usize,
}

impl<S> FaultyStore<S> {
    pub const fn new(inner: S, period: usize) -> Self {
        Self { inner, period, dumps_to_fail: 0, poison: None, failures: 0, calls: 0 }
    }

    fn failure(&mut self, operation: String) -> StoreError {
        self.failures += 1;
        StoreError { map: "FAULTY", operation, source: io::Error::from(io::ErrorKind::OutOfMemory) }
    }
}

impl<S: MapStore> MapStore for FaultyStore<S> {
    fn apply(&mut self, ops: &[MapOp]) -> Vec<(usize, StoreError)> {
        let mut failures = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            self.calls += 1;
            let is_poison = self.poison.as_ref().is_some_and(|poison| format!("{op:?}").contains(poison));
            if is_poison || (self.period > 0 && self.calls.is_multiple_of(self.period)) {
                failures.push((index, self.failure(format!("{op:?}"))));
            } else {
                let failed = self.inner.apply(std::slice::from_ref(op));
                failures.extend(failed.into_iter().map(|(_, error)| (index, error)));
            }
        }
        failures
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        if self.dumps_to_fail > 0 {
            self.dumps_to_fail -= 1;
            return Err(self.failure("dump".to_owned()));
        }
        self.inner.dump()
    }

    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }

    fn fill_from(&mut self, old: &Self, tables: &Tables) -> Result<(), StoreError> {
        self.inner.fill_from(&old.inner, tables)
    }
}
