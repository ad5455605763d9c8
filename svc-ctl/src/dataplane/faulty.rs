//! A store that fails on schedule, around any other.

use std::io;

use super::store::{MapStore, StoreError};
use crate::plan::tables::{MapOp, Tables};

/// Fails one op in every `period` (never if 0), and the dumps while `dumps_to_fail` lasts.
#[derive(Clone, Debug)]
pub struct FaultyStore<S> {
    pub inner: S,
    pub period: usize,
    pub dumps_to_fail: usize,
    /// How often it has failed.
    pub failures: usize,
    calls: usize,
}

impl<S> FaultyStore<S> {
    pub const fn new(inner: S, period: usize) -> Self {
        Self { inner, period, dumps_to_fail: 0, failures: 0, calls: 0 }
    }

    fn failure(&mut self, operation: String) -> StoreError {
        self.failures += 1;
        StoreError { map: "FAULTY", operation, source: io::Error::from(io::ErrorKind::OutOfMemory) }
    }
}

impl<S: MapStore> MapStore for FaultyStore<S> {
    fn apply(&mut self, ops: &[MapOp]) -> (usize, Result<(), StoreError>) {
        for (done, op) in ops.iter().enumerate() {
            self.calls += 1;
            if self.period > 0 && self.calls.is_multiple_of(self.period) {
                return (done, Err(self.failure(format!("{op:?}"))));
            }
            if let (_, Err(error)) = self.inner.apply(std::slice::from_ref(op)) {
                return (done, Err(error));
            }
        }
        (ops.len(), Ok(()))
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        if self.dumps_to_fail > 0 {
            self.dumps_to_fail -= 1;
            return Err(self.failure("dump".to_owned()));
        }
        self.inner.dump()
    }
}
