//! The tables while a plan puts them together, within the room that the kernel's maps have.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use svc_common::abi::{AddressFlags, BackendId, Extent, Scope};

use super::frontends::Claim;
use super::ids::{Capacity, Full};
use super::tables::{Backend, Frontend, FrontendEntry, Prefix, Tables};
use crate::model::name::IpFamily;
use crate::model::rejected::Rejected;

/// Whoever adds something asks for room first: adding itself does not fail, so nothing is ever half added.
#[derive(Debug)]
pub struct Growing {
    tables: Tables,
    capacity: Capacity,
    /// Entries per family.
    frontends: [usize; 2],
    addresses: [usize; 2],
    prefixes: [usize; 2],
}

impl Growing {
    /// Begins with the addresses of the node. Those without room are left out and are a problem.
    pub fn new(addresses: BTreeMap<IpAddr, AddressFlags>, capacity: Capacity) -> (Self, Vec<Rejected>) {
        let mut begun = Self {
            tables: Tables::default(),
            capacity,
            frontends: [0; 2],
            addresses: [0; 2],
            prefixes: [0; 2],
        };
        let mut surplus = [0_usize; 2];
        for (addr, flags) in addresses {
            let family = IpFamily::of(addr) as usize;
            if begun.addresses[family] < capacity.addresses as usize {
                begun.put_address(addr, flags);
            } else {
                surplus[family] += 1;
            }
        }
        let full = Full { table: "address", capacity: capacity.addresses };
        let named = |n: &usize| Rejected::new("Node", "", format!("{full}: {n} left out"));
        (begun, surplus.iter().filter(|n| **n > 0).map(named).collect())
    }

    pub fn into_tables(self) -> Tables {
        self.tables
    }

    /// There is room for these frontends, their addresses and their source ranges, all of one family.
    pub fn room_for(&self, family: IpFamily, claims: &[Claim], sources: &[Prefix]) -> Result<(), Full> {
        let new: BTreeSet<IpAddr> =
            published(claims).filter(|a| !self.tables.addresses.contains_key(a)).collect();
        let asked = [
            ("frontends", self.frontends, claims.len(), self.capacity.frontends),
            ("address", self.addresses, new.len(), self.capacity.addresses),
            ("prefix", self.prefixes, sources.len(), self.capacity.prefixes),
        ];
        let full = |&(_, used, more, capacity): &(_, [usize; 2], usize, u32)| {
            more > 0 && used[family as usize] + more > capacity as usize
        };
        match asked.into_iter().find(full) {
            Some((table, .., capacity)) => Err(Full { table, capacity }),
            None => Ok(()),
        }
    }

    pub fn put_frontend(&mut self, frontend: Frontend, entry: FrontendEntry) {
        if self.tables.frontends.insert(frontend, entry).is_none() {
            self.frontends[IpFamily::of(frontend.addr) as usize] += 1;
        }
    }

    /// What an address is already, it stays.
    pub fn put_address(&mut self, addr: IpAddr, flags: AddressFlags) {
        match self.tables.addresses.entry(addr) {
            Entry::Occupied(mut known) => {
                let both = known.get().with(flags);
                known.insert(both);
            }
            Entry::Vacant(free) => {
                free.insert(flags);
                self.addresses[IpFamily::of(addr) as usize] += 1;
            }
        }
    }

    /// Makes the addresses of these frontends known as such.
    pub fn put_addresses(&mut self, claims: &[Claim]) {
        for claim in claims.iter().filter(|claim| claim.frontend.scope == Scope::ADDRESS) {
            let flag = if claim.external { AddressFlags::EXTERNAL_IP } else { AddressFlags::CLUSTER_IP };
            self.put_address(claim.frontend.addr, flag);
        }
    }

    pub fn put_prefixes(&mut self, prefixes: impl IntoIterator<Item = Prefix>) {
        for prefix in prefixes {
            if self.tables.prefixes.insert(prefix) {
                self.prefixes[IpFamily::of(prefix.net.addr()) as usize] += 1;
            }
        }
    }

    /// Two slices may disagree on the node's name: whoever names it knows more.
    pub fn put_backend(&mut self, id: BackendId, backend: Backend) {
        let known = self.tables.backends.entry(id).or_insert(backend);
        known.locality = known.locality.max(backend.locality);
    }

    /// As the kernel has it, unless this plan knows better.
    pub fn keep_backend(&mut self, id: BackendId, backend: Backend) {
        self.tables.backends.entry(id).or_insert(backend);
    }

    /// An empty run has no place.
    pub fn put_extent(&mut self, extent: Extent, ids: Vec<BackendId>) {
        if extent.count > 0 {
            self.tables.extents.insert(extent, ids);
        }
    }
}

/// The addresses that the programs know by themselves; node ports are on the node's.
fn published(claims: &[Claim]) -> impl Iterator<Item = IpAddr> {
    claims.iter().map(|claim| claim.frontend).filter(|f| f.scope == Scope::ADDRESS).map(|f| f.addr)
}
