//! Writes ops to a store. A refused op waits here to be retried. It holds up the ops that build on it and no others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use svc_common::abi::{BackendId, Extent, ServicePortId};
use tokio::time::Instant;

use crate::dataplane::store::MapStore;
use crate::plan::tables::{Frontend, MapOp, Prefix};

/// Pause after the first failure; it doubles up to the longest pause.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Tries after which an op counts as refused for good.
const PATIENCE: u32 = 5;

/// The entry that an op changes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    Service(ServicePortId),
    Backend(BackendId),
    Extent(Extent),
    Maglev(Extent),
    Prefix(Prefix),
    Frontend(Frontend),
    Address(IpAddr),
}

/// Waiting ops, each with the kernel's reason or that of an op that it builds on.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: BTreeMap<Key, (MapOp, String)>,
    next: Option<(Instant, Duration)>,
    /// Number of retries of the waiting ops.
    tries: u32,
}

/// Result of some ops.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpCounts {
    pub done: u64,
    pub failed: u64,
}

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All accepted writes to tables of `entries` entries are done: nothing waits, or only a few ops that were
    /// refused again and again.
    pub fn is_settled(&self, entries: usize) -> bool {
        self.waiting.is_empty() || (self.tries >= PATIENCE && self.waiting.len() * 10 <= entries)
    }

    /// When the waiting ops are retried.
    pub fn next_try(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// Some of the reasons why ops wait.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        self.waiting.values().map(|(_, reason)| reason.as_str())
    }

    /// Applies ops. Their order keeps the tables valid after every prefix.
    pub fn apply(&mut self, store: &mut impl MapStore, ops: &[MapOp]) -> OpCounts {
        let mut outcome = OpCounts::default();
        for stage in ops.chunk_by(|a, b| rank(a) == rank(b)) {
            if self.waiting.is_empty() {
                self.apply_stage(store, stage, &mut outcome);
            } else {
                let (blocked, free): (Vec<_>, Vec<_>) = stage.iter().cloned().partition(|op| self.blocks(op));
                for op in blocked {
                    outcome.failed += 1;
                    self.wait(op, "it builds on an entry that could not be written".to_owned());
                }
                self.apply_stage(store, &free, &mut outcome);
            }
        }
        if self.waiting.is_empty() {
            (self.next, self.tries) = (None, 0);
        } else if self.next.is_none() {
            self.next = Some((Instant::now() + FIRST_PAUSE, FIRST_PAUSE));
        }
        outcome
    }

    /// Retries the waiting ops.
    pub fn retry(&mut self, store: &mut impl MapStore) -> OpCounts {
        let mut ops: Vec<MapOp> = std::mem::take(&mut self.waiting).into_values().map(|(op, _)| op).collect();
        ops.sort_by_key(rank);
        let pause = self.next.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        let outcome = self.apply(store, &ops);
        self.tries += 1;
        if !self.waiting.is_empty() {
            self.next = Some((Instant::now() + pause, pause));
        }
        outcome
    }

    fn apply_stage(&mut self, store: &mut impl MapStore, ops: &[MapOp], outcome: &mut OpCounts) {
        let failures = store.apply(ops);
        if !self.waiting.is_empty() {
            ops.iter().for_each(|op| drop(self.waiting.remove(&key(op))));
        }
        outcome.done += (ops.len() - failures.len()) as u64;
        outcome.failed += failures.len() as u64;
        for (index, error) in failures {
            self.wait(ops[index].clone(), error.to_string());
        }
    }

    fn wait(&mut self, op: MapOp, reason: String) {
        self.waiting.insert(key(&op), (op, reason));
    }

    /// The op names an entry that waits to be written.
    fn blocks(&self, op: &MapOp) -> bool {
        let waits = |key: Key| self.waiting.contains_key(&key);
        match op {
            MapOp::PutExtent(_, ids) => ids.iter().any(|id| waits(Key::Backend(*id))),
            MapOp::PutFrontend(_, entry) => {
                [entry.cluster, entry.local].into_iter().any(|e| e.count > 0 && waits(Key::Extent(e)))
                    || (entry.maglev.count > 0 && waits(Key::Maglev(entry.maglev)))
            }
            _ => false,
        }
    }
}

fn key(op: &MapOp) -> Key {
    match op {
        MapOp::ResetService(id) => Key::Service(*id),
        MapOp::PutBackend(id, _) | MapOp::FreeBackend(id, _) => Key::Backend(*id),
        MapOp::PutExtent(extent, _) | MapOp::FreeExtent(extent) => Key::Extent(*extent),
        MapOp::PutMaglev(pages, _) | MapOp::FreeMaglev(pages) => Key::Maglev(*pages),
        MapOp::PutPrefix(prefix) | MapOp::DeletePrefix(prefix) => Key::Prefix(*prefix),
        MapOp::PutFrontend(frontend, _) | MapOp::DeleteFrontend(frontend) => Key::Frontend(*frontend),
        MapOp::PutAddress(addr, _) | MapOp::DeleteAddress(addr) => Key::Address(*addr),
    }
}

/// Rank of an op in the order of writes: make before break.
const fn rank(op: &MapOp) -> u8 {
    match op {
        MapOp::ResetService(_) => 0,
        MapOp::PutBackend(..) => 1,
        MapOp::PutExtent(..) => 2,
        MapOp::PutMaglev(..) => 3,
        MapOp::PutPrefix(_) => 4,
        MapOp::PutFrontend(..) => 5,
        MapOp::PutAddress(..) => 6,
        MapOp::DeleteAddress(_) => 7,
        MapOp::DeleteFrontend(_) => 8,
        MapOp::DeletePrefix(_) => 9,
        MapOp::FreeMaglev(_) => 10,
        MapOp::FreeExtent(_) => 11,
        MapOp::FreeBackend(..) => 12,
    }
}
