//! The kernel's maps as a [`MapStore`].
//!
//! Arrays are written through memory mappings, in the order of the ops. Entries of hashes and tries are collected and
//! written in batches: prefixes, frontends, addresses, and removals in the opposite order. So the invariant of the
//! ops holds after every prefix of the writes: no frontend names a missing extent. The presence filter is marked before
//! all of them.

mod compare;
mod dump;
mod fill;
mod pages;
mod queues;
mod tracked;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use aya::maps::{MapError, PerCpuValues};
use aya::util::nr_cpus;
use svc_common::abi::*;
use svc_common::addr::Port;

use self::queues::Queues;
use super::complete_presence::complete_presence;
use super::encode;
use super::map_set::MapSet;
use super::maps::{FamilyMaps, Maps};
use super::store::{MapStore, StoreError};
use crate::plan::capacity::Capacity;
use crate::plan::diff::plan_diff;
use crate::plan::tables::{Backend, MapOp, Tables};

/// `BPF_ANY`.
const ANY: u64 = 0;

/// Reads and writes the pinned maps.
pub struct BpfStore(pub Maps);

/// Ops that the kernel refused: index and reason.
type Failures = Vec<(usize, io::Error)>;

impl MapStore for BpfStore {
    fn apply(&mut self, ops: &[MapOp]) -> Vec<(usize, StoreError)> {
        if let Err(error) = tracked::keep(&self.0, ops) {
            let error = format!("{error:#}");
            tracing::warn!(error, "connections that are older than their frontends may end");
        }
        let (mut queues, mut failures) = (Queues::default(), Failures::new());
        // A freed slot may be written again only after the removals before it.
        let mut has_freed = false;
        for (index, op) in ops.iter().enumerate() {
            // Programs ignore an entry without a mark in the presence filter.
            if let Err(err) = self.0.presence.mark_op(op) {
                failures.push((index, err));
                continue;
            }
            let is_freeing =
                matches!(op, MapOp::FreeExtent(_) | MapOp::FreeMaglev(_) | MapOp::FreeBackend(..));
            let is_queued = queues.takes(op);
            if queues.has_key_of(op) || (has_freed && !is_queued && !is_freeing) {
                queues.write(&self.0, &mut failures);
                has_freed = false;
            }
            has_freed |= is_freeing;
            match is_queued {
                true => queues.push(index, op),
                false => failures.extend(self.write_array(op).err().map(|err| (index, err))),
            }
        }
        queues.write(&self.0, &mut failures);
        failures.sort_by_key(|(index, _)| *index);
        let in_words = |(index, source): (usize, io::Error)| {
            let (map, operation) = ops.get(index).map_or_else(Default::default, describe);
            (index, StoreError { map, operation, source })
        };
        failures.into_iter().map(in_words).collect()
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        dump::dump(&mut self.0)
    }

    fn drift(
        &mut self,
        wanted: &Tables,
        maglev: &dyn Fn(Extent) -> Option<Arc<[u16]>>,
    ) -> Result<Vec<MapOp>, StoreError> {
        self.mark_all(wanted)?;
        let failed = |source| StoreError { map: "all maps", operation: "compare".to_owned(), source };
        if compare::holds(&mut self.0, wanted).map_err(failed)? {
            return Ok(Vec::new());
        }
        Ok(plan_diff(&self.dump()?, wanted, maglev))
    }

    fn capacity(&self) -> Capacity {
        self.0.set.sizes().capacity
    }

    fn fill_from(&mut self, old: &Self, tables: &Tables) -> Result<(), StoreError> {
        self.mark_all(tables)?;
        fill::fill(&mut self.0, &old.0, tables)
    }
}

impl BpfStore {
    /// The prefix tables have an entry of this list.
    pub fn has_prefixes(&self, list: PrefixList) -> bool {
        let maps = &self.0;
        let is_of = |of: PrefixList| of == list;
        maps.v4.prefixes.keys().flatten().any(|key| is_of(key.data().list))
            || maps.v6.prefixes.keys().flatten().any(|key| is_of(key.data().list))
    }

    /// The maps of a set. Marks the presence filter if its pin was lost; programs must not run over it before.
    pub fn over(set: &MapSet) -> anyhow::Result<Self> {
        let mut maps = Maps::of(set)?;
        complete_presence(&mut maps).context("marking the presence filter")?;
        Ok(Self(maps))
    }

    /// Marks all entries of tables in the presence filter. Marked places are not written again.
    fn mark_all(&mut self, tables: &Tables) -> Result<(), StoreError> {
        let failed = |source| StoreError { map: "PRESENCE", operation: "mark".to_owned(), source };
        self.0.presence.mark_all(tables).map_err(failed)
    }

    /// Ops on arrays. Array slots cannot be removed; a slot is free if nothing refers to it.
    fn write_array(&mut self, op: &MapOp) -> io::Result<()> {
        let maps = &mut self.0;
        match op {
            MapOp::PutBackend(id, backend) => put_backend(maps, *id, backend),
            MapOp::PutExtent(extent, ids) => put_extent(maps, *extent, ids),
            MapOp::PutMaglev(extent, places) => pages::put(&mut maps.maglev, *extent, places),
            MapOp::ResetService(id) => {
                let zeros = vec![ServiceCounters::default(); nr_cpus().map_err(|(_, err)| err)?];
                maps.services.set(id.0, PerCpuValues::try_from(zeros)?, ANY).map_err(io_error)
            }
            _ => Ok(()),
        }
    }
}

fn put_backend(maps: &mut Maps, id: BackendId, backend: &Backend) -> io::Result<()> {
    match backend.addr {
        IpAddr::V4(a) => put_backend_of(&mut maps.v4, id, backend, encode::v4(a)),
        IpAddr::V6(a) => put_backend_of(&mut maps.v6, id, backend, encode::v6(a)),
    }
}

fn put_backend_of<A: MapAddr>(
    maps: &mut FamilyMaps<A>,
    id: BackendId,
    b: &Backend,
    addr: A,
) -> io::Result<()> {
    maps.backends.set(id.0, &BackendValue { addr, port: Port::new(b.port), locality: b.locality, _pad: 0 })
}

fn put_extent(maps: &mut Maps, extent: Extent, ids: &[BackendId]) -> io::Result<()> {
    (extent.first..).zip(ids).try_for_each(|(place, id)| maps.selection.set(place, &id.0))
}

/// The table, and the op without its whole contents.
fn describe(op: &MapOp) -> (&'static str, String) {
    match op {
        MapOp::PutBackend(..) | MapOp::FreeBackend(..) => ("BACKENDS", format!("{op:?}")),
        MapOp::PutExtent(extent, _) => ("SELECTION", format!("PutExtent({extent:?})")),
        MapOp::FreeExtent(_) => ("SELECTION", format!("{op:?}")),
        MapOp::PutMaglev(extent, _) => ("MAGLEV", format!("PutMaglev({extent:?})")),
        MapOp::FreeMaglev(_) => ("MAGLEV", format!("{op:?}")),
        MapOp::ResetService(_) => ("SERVICES", format!("{op:?}")),
        MapOp::PutFrontend(..) | MapOp::DeleteFrontend(_) => ("FRONTENDS", format!("{op:?}")),
        MapOp::PutPrefix(_) | MapOp::DeletePrefix(_) => ("PREFIXES", format!("{op:?}")),
        MapOp::PutAddress(..) | MapOp::DeleteAddress(_) => ("ADDRESSES", format!("{op:?}")),
    }
}

fn io_error(err: MapError) -> io::Error {
    match err {
        MapError::SyscallError(err) => err.io_error,
        other => io::Error::other(other),
    }
}
