//! Counts the grants that hold a backend, an extent, a Maglev table or an address. Without a holder these leave the
//! tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use svc_common::abi::{AddressFlags, BackendId, Extent, Locality};

use super::moved_backends::MovedBackends;
use crate::plan::backend_map::BackendMap;
use crate::plan::ids::{Full, Ids};
use crate::plan::maglev::{digest, pages, plan_maglev};
use crate::plan::tables::{Backend, Tables};
use crate::plan::targets::Target;
use crate::plan::time::PlanTime;
use crate::plan::tracked::TrackedTables;

#[derive(Clone, Debug, Default)]
struct BackendUse {
    /// Grants that publish it, by the locality that each of them sees.
    published: [u32; 3],
    /// Grants whose clients may keep it by session affinity.
    affinity_grants: u32,
}

#[derive(Clone, Copy, Debug)]
struct MaglevUse {
    pages: Extent,
    count: u32,
}

/// Counts of holders.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    backends: BackendMap<BackendUse>,
    extents: HashMap<Extent, u32>,
    /// By the extent that a table is over.
    maglevs: HashMap<Extent, MaglevUse>,
    /// Service ports that have a cluster address and an external address there.
    addresses: HashMap<IpAddr, [u32; 2]>,
    /// Addresses of this node.
    own: BTreeMap<IpAddr, AddressFlags>,
    idle_backends: BTreeSet<BackendId>,
    idle_extents: BTreeSet<Extent>,
    moves: MovedBackends,
}

impl Uses {
    /// Everything that was found in the kernel at start is idle until it is held.
    pub fn restored(tables: &Tables) -> Self {
        Self {
            backends: tables.backends.keys().map(|id| (id, BackendUse::default())).collect(),
            extents: tables.extents.keys().map(|&e| (e, 0)).collect(),
            idle_backends: tables.backends.keys().collect(),
            idle_extents: tables.extents.keys().copied().collect(),
            ..Self::default()
        }
    }

    /// Slices may disagree on the node of a backend: one that names the node wins.
    pub fn publish(&mut self, tables: &mut TrackedTables, id: BackendId, target: Target, locality: Locality) {
        self.backend(id).published[usize::from(locality.0.min(2))] += 1;
        self.show_backend(tables, id, target);
    }

    pub fn unpublish(&mut self, tables: &mut TrackedTables, id: BackendId, locality: Locality) {
        if let Some(found) = self.backends.get_mut(&id) {
            let count = &mut found.published[usize::from(locality.0.min(2))];
            *count = count.saturating_sub(1);
            self.idle_backends.insert(id);
            if let Some(Backend { addr, port, .. }) = tables.get().backends.get(&id).copied() {
                self.show_backend(tables, id, (addr, port));
            }
        }
    }

    pub fn hold_for_affinity(&mut self, id: BackendId) {
        self.backend(id).affinity_grants += 1;
    }

    /// As [`Uses::hold_for_affinity`], of a backend that is held already.
    pub fn hold_again_for_affinity(&mut self, id: BackendId) {
        if let Some(found) = self.backends.get_mut(&id) {
            found.affinity_grants += 1;
        }
    }

    pub fn release_from_affinity(&mut self, id: BackendId) {
        if let Some(found) = self.backends.get_mut(&id) {
            found.affinity_grants = found.affinity_grants.saturating_sub(1);
            self.idle_backends.insert(id);
        }
    }

    fn backend(&mut self, id: BackendId) -> &mut BackendUse {
        self.backends.get_or_insert(id, BackendUse::default())
    }

    pub const fn moves(&self) -> &MovedBackends {
        &self.moves
    }

    fn show_backend(&mut self, tables: &mut TrackedTables, id: BackendId, (addr, port): Target) {
        let Some(BackendUse { published, .. }) = self.backends.get(&id) else { return };
        if let Some(locality) = (0..3_u8).rev().find(|l| published[usize::from(*l)] > 0) {
            let backend = Backend { addr, port, locality: Locality(locality) };
            let before = tables.get().backends.get(&id).copied();
            if before != Some(backend) {
                self.moves.publish(before, backend);
                tables.set_backend(id, Some(backend));
            }
        }
    }

    pub fn hold_extent(&mut self, tables: &mut TrackedTables, extent: Extent, set: &Arc<[BackendId]>) {
        *self.extents.entry(extent).or_default() += 1;
        if !tables.get().extents.contains_key(&extent) {
            tables.put_extent(extent, Arc::clone(set));
        }
    }

    pub fn release_extent(&mut self, extent: Extent) {
        if let Some(count) = self.extents.get_mut(&extent) {
            *count = count.saturating_sub(1);
            self.idle_extents.insert(extent);
        }
    }

    /// Holds the Maglev table over an extent, whose backends are these; its pages.
    pub fn hold_maglev(
        &mut self,
        tables: &mut TrackedTables,
        ids: &mut Ids,
        over: Extent,
        backends: impl FnOnce() -> Vec<Target>,
        now: PlanTime,
    ) -> Result<Extent, Full> {
        if let Some(known) = self.maglevs.get_mut(&over) {
            known.count += 1;
            return Ok(known.pages);
        }
        let count = pages(over.count as usize);
        if count == 0 {
            return Ok(Extent::default());
        }
        let places: Arc<[u16]> = plan_maglev(&backends()).into();
        let digest = digest(&places);
        let (pages, is_there) = ids.pages(count, digest, now)?;
        if !is_there {
            tables.put_maglev(pages, digest, places);
        }
        self.maglevs.insert(over, MaglevUse { pages, count: 1 });
        Ok(pages)
    }

    /// As [`Uses::hold_maglev`], of a table that is held already.
    pub fn hold_maglev_again(&mut self, over: Extent) {
        if let Some(found) = self.maglevs.get_mut(&over) {
            found.count += 1;
        }
    }

    pub fn release_maglev(&mut self, over: Extent) {
        if let Some(found) = self.maglevs.get_mut(&over) {
            found.count = found.count.saturating_sub(1);
            self.idle_extents.insert(over);
        }
    }

    /// The extents that Maglev tables are over, by their pages.
    pub fn maglevs(&self) -> impl Iterator<Item = (Extent, Extent)> + '_ {
        self.maglevs.iter().map(|(over, found)| (found.pages, *over))
    }

    pub fn hold_address(&mut self, tables: &mut TrackedTables, addr: IpAddr, is_external: bool) {
        self.addresses.entry(addr).or_default()[usize::from(is_external)] += 1;
        self.show_address(tables, addr);
    }

    pub fn release_address(&mut self, tables: &mut TrackedTables, addr: IpAddr, is_external: bool) {
        if let Some(counts) = self.addresses.get_mut(&addr) {
            counts[usize::from(is_external)] = counts[usize::from(is_external)].saturating_sub(1);
            if *counts == [0; 2] {
                self.addresses.remove(&addr);
            }
        }
        self.show_address(tables, addr);
    }

    /// Replaces the addresses of the node. Returns the number of those without room in a table of that many per family.
    pub fn set_own(
        &mut self,
        tables: &mut TrackedTables,
        own: BTreeMap<IpAddr, AddressFlags>,
        capacity: u32,
    ) -> usize {
        let before = std::mem::replace(&mut self.own, own);
        let gone: Vec<IpAddr> = before.keys().filter(|a| !self.own.contains_key(a)).copied().collect();
        gone.iter().for_each(|addr| self.show_address(tables, *addr));
        let now: Vec<IpAddr> = self.own.keys().copied().collect();
        let mut surplus = 0;
        for addr in now {
            let used = tables.addresses()[usize::from(addr.is_ipv6())];
            if tables.get().addresses.contains_key(&addr) || used < capacity as usize {
                self.show_address(tables, addr);
            } else {
                self.own.remove(&addr);
                surplus += 1;
            }
        }
        surplus
    }

    fn show_address(&self, tables: &mut TrackedTables, addr: IpAddr) {
        let [cluster, external] = self.addresses.get(&addr).copied().unwrap_or_default();
        let own = self.own.get(&addr).copied().unwrap_or_default();
        let of = |count: u32, flag: AddressFlags| if count > 0 { flag } else { AddressFlags::default() };
        let flags =
            own.with(of(cluster, AddressFlags::CLUSTER_IP)).with(of(external, AddressFlags::EXTERNAL_IP));
        let flags = (flags != AddressFlags::default()).then_some(flags);
        if tables.get().addresses.get(&addr).copied() != flags {
            tables.set_address(addr, flags);
        }
    }

    /// Removes addresses that the kernel held at the start and that have no owner.
    pub fn remove_unknown_addresses(&self, tables: &mut TrackedTables) {
        let all: Vec<IpAddr> = tables.get().addresses.keys().copied().collect();
        all.into_iter().for_each(|addr| self.show_address(tables, addr));
    }

    /// Removes idle entries from the tables, and retires their numbers and places.
    pub fn remove_idle(&mut self, tables: &mut TrackedTables, ids: &mut Ids) {
        for extent in std::mem::take(&mut self.idle_extents) {
            if let Some(found) = self.maglevs.get(&extent).filter(|found| found.count == 0) {
                tables.remove_maglev(found.pages);
                ids.retire_pages(found.pages);
                self.maglevs.remove(&extent);
            }
            if self.extents.get(&extent) == Some(&0) {
                self.extents.remove(&extent);
                if let Some(set) = tables.get().extents.get(&extent).cloned() {
                    ids.retire_extent(&set, extent);
                    tables.remove_extent(extent);
                }
            }
        }
        for id in std::mem::take(&mut self.idle_backends) {
            let Some(BackendUse { published, affinity_grants }) = self.backends.get(&id).cloned() else {
                continue;
            };
            if published == [0; 3]
                && let Some(gone) = tables.get().backends.get(&id).copied()
            {
                self.moves.remove(gone);
                tables.set_backend(id, None);
            }
            if published == [0; 3] && affinity_grants == 0 {
                ids.retire_backend(id);
                self.backends.remove(&id);
            }
        }
    }
}
