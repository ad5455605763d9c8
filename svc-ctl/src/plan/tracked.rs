//! Tables that remember the entries of before a change, so that the cost of a change is in proportion to its size.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use svc_common::abi::{AddressFlags, BackendId, Extent, ServicePortId};

use super::tables::{Backend, Frontend, FrontendEntry, MapOp, Prefix, Tables};
use crate::model::name::IpFamily;

/// Entries per family.
pub type PerFamily = [usize; 2];

/// All tables, and their changes since the last [`TrackedTables::take_ops`].
#[derive(Clone, Debug, Default)]
pub struct TrackedTables {
    tables: Tables,
    before: Before,
    frontends: PerFamily,
    addresses: PerFamily,
    prefixes: PerFamily,
    /// Places of Maglev tables that are not written yet.
    places: BTreeMap<Extent, Arc<[u16]>>,
    /// Services that begin.
    begun: Vec<ServicePortId>,
}

/// The former value under each key that was touched.
#[derive(Clone, Debug, Default)]
struct Before {
    backends: BTreeMap<BackendId, Option<Backend>>,
    extents: BTreeMap<Extent, bool>,
    maglevs: BTreeMap<Extent, Option<u64>>,
    frontends: BTreeMap<Frontend, Option<FrontendEntry>>,
    addresses: BTreeMap<IpAddr, Option<AddressFlags>>,
    prefixes: BTreeMap<Prefix, bool>,
}

impl TrackedTables {
    /// Tables as they were found.
    pub fn new(tables: Tables) -> Self {
        let count = |addrs: &mut dyn Iterator<Item = IpAddr>| {
            addrs.fold([0; 2], |mut sum: PerFamily, addr| {
                sum[IpFamily::of(addr) as usize] += 1;
                sum
            })
        };
        Self {
            frontends: count(&mut tables.frontends.keys().map(|f| f.addr)),
            addresses: count(&mut tables.addresses.keys().copied()),
            prefixes: count(&mut tables.prefixes.iter().map(|p| p.net.addr())),
            tables,
            ..Self::default()
        }
    }

    pub const fn get(&self) -> &Tables {
        &self.tables
    }

    pub const fn frontends(&self) -> PerFamily {
        self.frontends
    }

    pub const fn addresses(&self) -> PerFamily {
        self.addresses
    }

    pub const fn prefixes(&self) -> PerFamily {
        self.prefixes
    }

    pub fn set_backend(&mut self, id: BackendId, backend: Option<Backend>) {
        let table = &mut self.tables.backends;
        let old = match backend {
            Some(backend) => table.insert(id, backend),
            None => table.remove(&id),
        };
        self.before.backends.entry(id).or_insert(old);
    }

    pub fn put_extent(&mut self, extent: Extent, ids: Arc<[BackendId]>) {
        let old = self.tables.extents.insert(extent, ids);
        self.before.extents.entry(extent).or_insert(old.is_some());
    }

    pub fn remove_extent(&mut self, extent: Extent) {
        let old = self.tables.extents.remove(&extent);
        self.before.extents.entry(extent).or_insert(old.is_some());
    }

    pub fn put_maglev(&mut self, pages: Extent, digest: u64, places: Arc<[u16]>) {
        let old = self.tables.maglevs.insert(pages, digest);
        self.before.maglevs.entry(pages).or_insert(old);
        self.places.insert(pages, places);
    }

    pub fn remove_maglev(&mut self, pages: Extent) {
        let old = self.tables.maglevs.remove(&pages);
        self.before.maglevs.entry(pages).or_insert(old);
        self.places.remove(&pages);
    }

    pub fn set_frontend(&mut self, frontend: Frontend, entry: Option<FrontendEntry>) {
        let is_there = entry.is_some();
        let old = set(&mut self.tables.frontends, frontend, entry);
        count(&mut self.frontends, frontend.addr, old.is_some(), is_there);
        self.before.frontends.entry(frontend).or_insert(old);
    }

    pub fn set_address(&mut self, addr: IpAddr, flags: Option<AddressFlags>) {
        let is_there = flags.is_some();
        let old = set(&mut self.tables.addresses, addr, flags);
        count(&mut self.addresses, addr, old.is_some(), is_there);
        self.before.addresses.entry(addr).or_insert(old);
    }

    pub fn set_prefix(&mut self, prefix: Prefix, is_there: bool) {
        let was_there = match is_there {
            true => !self.tables.prefixes.insert(prefix),
            false => self.tables.prefixes.remove(&prefix),
        };
        count(&mut self.prefixes, prefix.net.addr(), was_there, is_there);
        self.before.prefixes.entry(prefix).or_insert(was_there);
    }

    pub fn repack(&mut self) {
        repack(&mut self.tables.frontends);
        repack(&mut self.tables.extents);
        repack(&mut self.tables.addresses);
    }

    /// This id is a service port's from now on.
    pub fn begin_service(&mut self, id: ServicePortId) {
        self.begun.push(id);
    }

    /// The changes since the last call. Make before break: backends, extents, prefixes, frontends, addresses are put in
    /// this order and deleted in the reverse, so that after every prefix no frontend names a missing extent and no extent
    /// a missing backend.
    pub fn take_ops(&mut self) -> Vec<MapOp> {
        let before = std::mem::take(&mut self.before);
        let now = &self.tables;
        let mut ops: Vec<MapOp> = self.begun.drain(..).map(MapOp::ResetService).collect();
        let backends = || changed(&before.backends, |id| now.backends.get(id).copied());
        ops.extend(backends().filter_map(|(id, _, new)| Some(MapOp::PutBackend(*id, new?))));
        let extents =
            before.extents.iter().map(|(extent, was_there)| (extent, was_there, now.extents.get(extent)));
        let extents: Vec<_> = extents.filter(|(_, was_there, new)| **was_there != new.is_some()).collect();
        ops.extend(extents.iter().filter_map(|(e, _, new)| Some(MapOp::PutExtent(**e, Arc::clone((*new)?)))));
        let maglevs = || changed(&before.maglevs, |pages| now.maglevs.get(pages).copied());
        let places = &self.places;
        ops.extend(maglevs().filter_map(|(pages, _, new)| {
            new.and(places.get(pages)).map(|places| MapOp::PutMaglev(*pages, Arc::clone(places)))
        }));
        let prefixes =
            || before.prefixes.iter().map(|(p, was_there)| (*p, *was_there, now.prefixes.contains(p)));
        ops.extend(prefixes().filter(|(_, old, new)| *new && !old).map(|(p, ..)| MapOp::PutPrefix(p)));
        let frontends = || changed(&before.frontends, |f| now.frontends.get(f).copied());
        ops.extend(frontends().filter_map(|(f, _, new)| Some(MapOp::PutFrontend(*f, new?))));
        let addresses = || changed(&before.addresses, |a| now.addresses.get(a).copied());
        ops.extend(addresses().filter_map(|(a, _, new)| Some(MapOp::PutAddress(*a, new?))));
        ops.extend(addresses().filter(|(.., new)| new.is_none()).map(|(a, ..)| MapOp::DeleteAddress(*a)));
        ops.extend(frontends().filter(|(.., new)| new.is_none()).map(|(f, ..)| MapOp::DeleteFrontend(*f)));
        ops.extend(prefixes().filter(|(_, old, new)| *old && !new).map(|(p, ..)| MapOp::DeletePrefix(p)));
        ops.extend(maglevs().filter(|(.., new)| new.is_none()).map(|(pages, ..)| MapOp::FreeMaglev(*pages)));
        ops.extend(extents.iter().filter(|(.., new)| new.is_none()).map(|(e, ..)| MapOp::FreeExtent(**e)));
        ops.extend(backends().filter_map(|(id, old, new)| match (old, new) {
            (Some(old), None) => Some(MapOp::FreeBackend(*id, old)),
            _ => None,
        }));
        self.places.clear();
        ops
    }
}

/// Makes the nodes of a tree full. Entries that come in the order of their keys, as those of a list do, leave them half
/// empty.
pub fn repack<T, I>(tree: &mut T)
where
    T: Default + IntoIterator<Item = I> + FromIterator<I>,
{
    *tree = std::mem::take(tree).into_iter().collect();
}

fn set<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => table.insert(key, value),
        None => table.remove(&key),
    }
}

fn count(sum: &mut PerFamily, addr: IpAddr, was_there: bool, is_there: bool) {
    let sum = &mut sum[IpFamily::of(addr) as usize];
    *sum = *sum + usize::from(is_there) - usize::from(was_there);
}

/// Keys with a changed value: key, old value, new value.
fn changed<'a, K: Ord, V: PartialEq + Copy>(
    before: &'a BTreeMap<K, Option<V>>,
    now: impl Fn(&K) -> Option<V> + 'a,
) -> impl Iterator<Item = (&'a K, Option<V>, Option<V>)> {
    before.iter().map(move |(key, old)| (key, *old, now(key))).filter(|(_, old, new)| old != new)
}
