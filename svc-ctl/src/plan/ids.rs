//! Stable numbers: services, backends, places of extents. They live as long as what they name, also across a restart,
//! where they are found again in the restored tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use svc_common::abi::{BackendId, Extent, ServiceId, limits};

use super::numbers::Numbers;
use super::places::Places;
use super::stays::Stays;
use super::tables::{Frontend, Tables};
use super::tick::Tick;
use crate::model::name::ServicePortKey;

/// How much the tables hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Per family.
    pub frontends: u32,
    /// Of both families: ids are unique across them.
    pub backends: u32,
    pub selection: u32,
    pub services: u32,
    /// Per family.
    pub addresses: u32,
    /// Per family.
    pub prefixes: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            frontends: limits::FRONTENDS,
            backends: limits::BACKENDS,
            selection: limits::SELECTION,
            services: limits::SERVICES,
            addresses: limits::ADDRESSES,
            prefixes: limits::PREFIXES,
        }
    }
}

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
    services: BTreeMap<ServicePortKey, ServiceId>,
    backends: BTreeMap<(IpAddr, u16), BackendId>,
    extents: BTreeMap<Vec<BackendId>, Extent>,
    /// Maglev tables by the backends that they are of, as long as they are in use.
    maglevs: BTreeMap<BTreeSet<BackendId>, Vec<BackendId>>,
    /// Frontends found in the kernel at start; the service port that claims one gets its service id back.
    restored: BTreeMap<Frontend, ServiceId>,
    /// What was taken since `begin`, to be undone by `roll_back`.
    journal: Vec<Taken>,
}

/// A number that no table shows yet.
#[derive(Clone, Debug)]
enum Taken {
    Service(ServicePortKey),
    Backend((IpAddr, u16)),
    Extent(Vec<BackendId>),
}

impl Ids {
    /// Ids that agree with what the kernel holds (nothing, after a first start).
    pub fn restored(tables: &Tables, capacity: Capacity) -> Self {
        let services: BTreeSet<u32> = tables.frontends.values().map(|e| e.service.0).collect();
        let backends: BTreeSet<u32> = tables.backends.keys().map(|id| id.0).collect();
        let mut places = Places::new(capacity.selection);
        let mut extents = BTreeMap::new();
        for (&extent, set) in &tables.extents {
            if places.take_at(extent) {
                let twin = extents.insert(set.clone(), extent);
                twin.into_iter().for_each(|e| places.retire(e));
            }
        }
        Self {
            capacity,
            service_numbers: Numbers::new(capacity.services, &services),
            backend_numbers: Numbers::new(capacity.backends, &backends),
            places,
            services: BTreeMap::new(),
            backends: tables.backends.iter().map(|(&id, b)| ((b.addr, b.port), id)).collect(),
            extents,
            maglevs: BTreeMap::new(),
            restored: tables.frontends.iter().map(|(&frontend, e)| (frontend, e.service)).collect(),
            journal: Vec::new(),
        }
    }

    /// From here on everything that is taken is taken for one service port.
    pub fn begin(&mut self) {
        self.journal.clear();
    }

    /// The service port does not fit: what was taken for it is there for others.
    pub fn roll_back(&mut self) {
        for taken in std::mem::take(&mut self.journal).into_iter().rev() {
            match taken {
                Taken::Service(key) => {
                    let id = self.services.remove(&key);
                    id.into_iter().for_each(|id| self.service_numbers.untake(id.0));
                }
                Taken::Backend(target) => {
                    let id = self.backends.remove(&target);
                    id.into_iter().for_each(|id| self.backend_numbers.untake(id.0));
                }
                Taken::Extent(set) => {
                    let extent = self.extents.remove(&set);
                    extent.into_iter().for_each(|e| self.places.untake(e));
                }
            }
        }
    }

    /// The id of a service port: the one it has, the one its frontends had before the restart, or a new one.
    pub fn service<'a>(
        &mut self,
        key: &ServicePortKey,
        frontends: impl IntoIterator<Item = &'a Frontend>,
        now: Tick,
    ) -> Result<ServiceId, Full> {
        if let Some(&id) = self.services.get(key) {
            return Ok(id);
        }
        let known = frontends.into_iter().find_map(|f| self.restored.get(f).copied());
        let id = match known {
            Some(id) => {
                self.restored.retain(|_, other| *other != id);
                id
            }
            None => {
                let id = self.service_numbers.take(now).ok_or_else(|| self.full("services"))?;
                self.journal.push(Taken::Service(key.clone()));
                ServiceId(id)
            }
        };
        self.services.insert(key.clone(), id);
        Ok(id)
    }

    /// The id of a backend.
    pub fn backend(&mut self, addr: IpAddr, port: u16, now: Tick) -> Result<BackendId, Full> {
        if let Some(&id) = self.backends.get(&(addr, port)) {
            return Ok(id);
        }
        let id = self.backend_numbers.take(now).map(BackendId).ok_or_else(|| self.full("backends"))?;
        self.backends.insert((addr, port), id);
        self.journal.push(Taken::Backend((addr, port)));
        Ok(id)
    }

    /// The place of a set of backends, sorted by id; equal sets share one. The empty set has none.
    pub fn extent(&mut self, set: &[BackendId], now: Tick) -> Result<Extent, Full> {
        if set.is_empty() {
            return Ok(Extent::default());
        }
        if let Some(&extent) = self.extents.get(set) {
            return Ok(extent);
        }
        let count = u32::try_from(set.len()).map_err(|_| self.full("selection"))?;
        let extent = self.places.take(count, now).ok_or_else(|| self.full("selection"))?;
        self.extents.insert(set.to_vec(), extent);
        self.journal.push(Taken::Extent(set.to_vec()));
        Ok(extent)
    }

    /// An extent of the kernel's tables is still known under the same numbers, so that it may be planned again.
    pub fn holds(&self, extent: Extent, tables: &Tables) -> bool {
        if extent.count == 0 {
            return true;
        }
        let Some(set) = tables.extents.get(&extent) else { return false };
        let known = |id: &BackendId| {
            let backend = tables.backends.get(id);
            backend.is_some_and(|b| self.backends.get(&(b.addr, b.port)) == Some(id))
        };
        self.extents.get(set) == Some(&extent) && set.iter().all(known)
    }

    /// Service ids by service port, for people.
    pub const fn services(&self) -> &BTreeMap<ServicePortKey, ServiceId> {
        &self.services
    }

    /// Forgets what the planned tables no longer use, and no client may stay with. It is not used again before `release`
    /// and a grace.
    pub fn retire_unused(&mut self, tables: &Tables, stays: &Stays) {
        let used: BTreeSet<ServiceId> = tables.frontends.values().map(|e| e.service).collect();
        let numbers = &mut self.service_numbers;
        self.services.retain(|_, id| used.contains(id) || (numbers.retire(id.0), false).1);
        let unclaimed: BTreeSet<ServiceId> = std::mem::take(&mut self.restored).into_values().collect();
        unclaimed.difference(&used).for_each(|id| numbers.retire(id.0));
        let numbers = &mut self.backend_numbers;
        let stayed: BTreeSet<BackendId> = stays.values().flatten().copied().collect();
        let is_used = |id: &BackendId| tables.backends.contains_key(id) || stayed.contains(id);
        self.backends.retain(|_, id| is_used(id) || (numbers.retire(id.0), false).1);
        let places = &mut self.places;
        let extents = &self.extents;
        let is_used = |e: &Extent| tables.extents.contains_key(e);
        self.maglevs.retain(|_, table| extents.get(table).is_some_and(is_used));
        self.extents.retain(|_, e| tables.extents.contains_key(e) || (places.retire(*e), false).1);
    }

    /// The Maglev table of these, which is made once.
    pub fn maglev(&mut self, of: &[BackendId], make: impl FnOnce() -> Vec<usize>) -> Vec<BackendId> {
        let set = of.iter().copied().collect();
        let table = self.maglevs.entry(set);
        table.or_insert_with(|| make().into_iter().map(|i| of[i]).collect()).clone()
    }

    /// The kernel holds what was planned last: what was retired may be used again after a grace.
    pub fn release(&mut self, now: Tick) {
        self.service_numbers.release(now);
        self.backend_numbers.release(now);
        self.places.release(now);
    }

    const fn full(&self, table: &'static str) -> Full {
        let capacity = match table.as_bytes() {
            b"services" => self.capacity.services,
            b"backends" => self.capacity.backends,
            _ => self.capacity.selection,
        };
        Full { table, capacity }
    }
}
