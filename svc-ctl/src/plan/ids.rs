//! Stable numbers: services, backends, places of extents and of Maglev tables. A number lives as long as the thing that
//! it names. After a restart it is found again in the restored tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdMap;
use svc_common::abi::{BackendId, Extent, ServicePortId};

use super::capacity::Capacity;
use super::numbers::Numbers;
use super::places::Places;
use super::tables::{Frontend, Tables};
use super::targets::{Target, Targets};
use super::time::PlanTime;
use crate::model::name::ServicePortKey;

/// A table has no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the {table} table is full ({capacity} entries)")]
pub struct Full {
    pub table: &'static str,
    pub capacity: u32,
}

#[derive(Clone, Debug)]
pub struct Ids {
    pub capacity: Capacity,
    service_numbers: Numbers,
    backend_numbers: Numbers,
    places: Places,
    pages: Places,
    services: OrdMap<ServicePortKey, ServicePortId>,
    backends: Targets,
    extents: HashMap<Arc<[BackendId]>, Extent>,
    /// Frontends found in the kernel at start; the service port that claims one gets its service id back.
    restored_services: BTreeMap<Frontend, ServicePortId>,
    /// Ids of those that have been claimed.
    restored_taken: BTreeSet<ServicePortId>,
    /// Maglev tables found in the kernel at start, by digest and number of pages.
    restored_maglevs: BTreeMap<(u64, u32), Extent>,
    /// Numbers taken since `begin`, to be undone by `roll_back`.
    journal: Vec<JournalEntry>,
}

/// A number that no table shows yet.
#[derive(Clone, Debug)]
enum JournalEntry {
    Service(ServicePortKey),
    Backend(Target),
    Extent(Arc<[BackendId]>),
    Pages(Extent),
}

impl Ids {
    /// Ids that agree with the kernel's tables, which are empty after a first start.
    pub fn restored(tables: &Tables, capacity: Capacity) -> Self {
        let services: BTreeSet<u32> = tables.frontends.values().map(|e| e.service.0).collect();
        let backends: BTreeSet<u32> = tables.backends.keys().map(|id| id.0).collect();
        let (mut places, mut pages) = (Places::new(capacity.selection), Places::new(capacity.maglev));
        let mut extents = HashMap::new();
        for (&extent, set) in &tables.extents {
            if places.take_at(extent) {
                let twin = extents.insert(Arc::clone(set), extent);
                twin.into_iter().for_each(|e| places.retire(e));
            }
        }
        let mut restored_maglevs = BTreeMap::new();
        for (&extent, &digest) in &tables.maglevs {
            if pages.take_at(extent) {
                let twin = restored_maglevs.insert((digest, extent.count), extent);
                twin.into_iter().for_each(|e| pages.retire(e));
            }
        }
        Self {
            capacity,
            service_numbers: Numbers::new(capacity.services, &services),
            backend_numbers: Numbers::new(capacity.backends, &backends),
            places,
            pages,
            services: OrdMap::new(),
            backends: tables.backends.iter().map(|(id, b)| ((b.addr, b.port), id)).collect(),
            extents,
            restored_services: tables.frontends.iter().map(|(&frontend, e)| (frontend, e.service)).collect(),
            restored_taken: BTreeSet::new(),
            restored_maglevs,
            journal: Vec::new(),
        }
    }

    /// The tables have become larger.
    pub fn grow(&mut self, capacity: Capacity) {
        self.capacity = capacity;
        self.service_numbers.grow(capacity.services);
        self.backend_numbers.grow(capacity.backends);
        self.places.grow(capacity.selection);
        self.pages.grow(capacity.maglev);
    }

    /// Used and not yet usable again: services, backends, places, pages.
    pub fn used(&self) -> [usize; 4] {
        let runs = [&self.places, &self.pages].map(|p| p.used() as usize);
        [self.service_numbers.used(), self.backend_numbers.used(), runs[0], runs[1]]
    }

    /// Begins to record the numbers that are taken for one service port.
    pub fn begin(&mut self) {
        self.journal.clear();
    }

    /// The service port does not fit. Frees the numbers that were taken for it.
    pub fn roll_back(&mut self) {
        for taken in std::mem::take(&mut self.journal).into_iter().rev() {
            match taken {
                JournalEntry::Service(key) => {
                    let id = self.services.remove(&key);
                    id.into_iter().for_each(|id| self.service_numbers.untake(id.0));
                }
                JournalEntry::Backend(target) => {
                    let id = self.backends.remove(&target);
                    id.into_iter().for_each(|id| self.backend_numbers.untake(id.0));
                }
                JournalEntry::Extent(set) => {
                    let extent = self.extents.remove(&set);
                    extent.into_iter().for_each(|e| self.places.untake(e));
                }
                JournalEntry::Pages(pages) => self.pages.untake(pages),
            }
        }
    }

    /// The id of a service port, and whether it begins with it: the one it has, the one its frontends had before the
    /// restart, or a new one.
    pub fn service<'a>(
        &mut self,
        key: &ServicePortKey,
        frontends: impl IntoIterator<Item = &'a Frontend>,
        now: PlanTime,
    ) -> Result<(ServicePortId, bool), Full> {
        if let Some(&id) = self.services.get(key) {
            return Ok((id, false));
        }
        // Two service ports may claim frontends that one had before: the first gets the id.
        let restored = frontends.into_iter().find_map(|f| self.restored_services.get(f).copied());
        let restored = restored.filter(|id| self.restored_taken.insert(*id));
        let id = match restored {
            Some(id) => id,
            None => {
                let id = self.service_numbers.take(now).ok_or_else(|| self.full("services"))?;
                self.journal.push(JournalEntry::Service(key.clone()));
                ServicePortId(id)
            }
        };
        self.services.insert(key.clone(), id);
        Ok((id, restored.is_none()))
    }

    /// The id of a backend.
    pub fn backend(&mut self, target: Target, now: PlanTime) -> Result<BackendId, Full> {
        if let Some(id) = self.backends.id(&target) {
            return Ok(id);
        }
        let id = self.backend_numbers.take(now).map(BackendId).ok_or_else(|| self.full("backends"))?;
        self.backends.insert(target, id);
        self.journal.push(JournalEntry::Backend(target));
        Ok(id)
    }

    /// The place of a set of backends, sorted by id; equal sets share one. The empty set has none.
    pub fn extent(&mut self, set: &[BackendId], now: PlanTime) -> Result<Extent, Full> {
        if set.is_empty() {
            return Ok(Extent::default());
        }
        if let Some(&extent) = self.extents.get(set) {
            return Ok(extent);
        }
        let count = u32::try_from(set.len()).map_err(|_| self.full("selection"))?;
        let extent = self.places.take(count, now).ok_or_else(|| self.full("selection"))?;
        let set: Arc<[BackendId]> = set.into();
        self.extents.insert(Arc::clone(&set), extent);
        self.journal.push(JournalEntry::Extent(set));
        Ok(extent)
    }

    /// The set that has a place.
    pub fn set(&self, set: &[BackendId]) -> Option<&Arc<[BackendId]>> {
        self.extents.get_key_value(set).map(|(set, _)| set)
    }

    /// Pages for a Maglev table, and whether the kernel's lie there already.
    pub fn pages(&mut self, count: u32, digest: u64, now: PlanTime) -> Result<(Extent, bool), Full> {
        if let Some(pages) = self.restored_maglevs.remove(&(digest, count)) {
            return Ok((pages, true));
        }
        let pages = self.pages.take(count, now).ok_or_else(|| self.full("maglev"))?;
        self.journal.push(JournalEntry::Pages(pages));
        Ok((pages, false))
    }

    /// An extent of the kernel's tables is still known under the same numbers, so that it may be used again.
    pub fn is_known(&self, extent: Extent, tables: &Tables) -> bool {
        let Some(set) = tables.extents.get(&extent) else { return false };
        let is_known = |id: &BackendId| {
            let backend = tables.backends.get(id);
            backend.is_some_and(|b| self.backends.id(&(b.addr, b.port)) == Some(*id))
        };
        self.extents.get(set) == Some(&extent) && set.iter().all(is_known)
    }

    /// Service ids by service port. A clone costs nothing.
    pub const fn services(&self) -> &OrdMap<ServicePortKey, ServicePortId> {
        &self.services
    }

    pub fn known_backend(&self, target: &Target) -> Option<BackendId> {
        self.backends.id(target)
    }

    /// No service port has this key any more. Its number is not used again before `release` and a grace; likewise below.
    pub fn retire_service(&mut self, key: &ServicePortKey) {
        let id = self.services.remove(key);
        id.into_iter().for_each(|id| self.service_numbers.retire(id.0));
    }

    pub fn retire_backend(&mut self, id: BackendId) {
        if let Some(target) = self.backends.target(id) {
            self.backends.remove(&target);
        }
        self.backend_numbers.retire(id.0);
    }

    pub fn retire_extent(&mut self, set: &[BackendId], extent: Extent) {
        if self.extents.get(set) == Some(&extent) {
            self.extents.remove(set);
            self.places.retire(extent);
        }
    }

    pub fn retire_pages(&mut self, pages: Extent) {
        self.pages.retire(pages);
    }

    /// Retires the numbers that were found in the kernel at start and that no Service claimed.
    pub fn end_restoring(&mut self) {
        let taken = std::mem::take(&mut self.restored_taken);
        let found: BTreeSet<ServicePortId> =
            std::mem::take(&mut self.restored_services).into_values().collect();
        found.difference(&taken).for_each(|id| self.service_numbers.retire(id.0));
        let pages = std::mem::take(&mut self.restored_maglevs);
        pages.into_values().for_each(|e| self.pages.retire(e));
    }

    /// The kernel holds the last plan. Retired numbers may be used again after a grace.
    pub fn release(&mut self, now: PlanTime) {
        self.service_numbers.release(now);
        self.backend_numbers.release(now);
        self.places.release(now);
        self.pages.release(now);
    }

    /// The time at which the next released number or place becomes usable.
    pub fn next_usable(&self, now: PlanTime) -> Option<PlanTime> {
        let numbers = [&self.service_numbers, &self.backend_numbers].map(|n| n.next_usable(now));
        let runs = [&self.places, &self.pages].map(|p| p.next_usable(now));
        numbers.into_iter().chain(runs).flatten().min()
    }

    const fn full(&self, table: &'static str) -> Full {
        let capacity = match table.as_bytes() {
            b"services" => self.capacity.services,
            b"backends" => self.capacity.backends,
            b"maglev" => self.capacity.maglev,
            _ => self.capacity.selection,
        };
        Full { table, capacity }
    }
}
