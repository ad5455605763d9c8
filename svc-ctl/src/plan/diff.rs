//! (actual, desired) -> ordered ops. Make before break: backends, extents, prefixes, frontends, addresses are put in this
//! order and deleted in the reverse, so that after every prefix no frontend names a missing extent and no extent a
//! missing backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use svc_common::abi::Extent;

use super::maglev::digest;
use super::tables::{MapOp, Tables};

/// The changes that make `actual` equal to `desired`; none if they are equal (PAR-131).
///
/// `maglev` has the places of the desired Maglev tables by their pages.
pub fn plan_diff(
    actual: &Tables,
    desired: &Tables,
    maglev: impl Fn(Extent) -> Option<Arc<[u16]>>,
) -> Vec<MapOp> {
    let mut ops: Vec<MapOp> = Vec::new();
    let (old, new) = (&actual.backends, &desired.backends);
    let changed_backends = new.iter().filter(|(id, backend)| old.get(id) != Some(backend));
    ops.extend(changed_backends.map(|(id, backend)| MapOp::PutBackend(id, *backend)));
    ops.extend(
        changed(&actual.extents, &desired.extents).map(|(&e, set)| MapOp::PutExtent(e, Arc::clone(set))),
    );
    let maglevs = changed(&actual.maglevs, &desired.maglevs);
    ops.extend(maglevs.filter_map(|(&pages, _)| Some(MapOp::PutMaglev(pages, maglev(pages)?))));
    ops.extend(desired.prefixes.difference(&actual.prefixes).map(|&p| MapOp::PutPrefix(p)));
    ops.extend(changed(&actual.frontends, &desired.frontends).map(|(&f, &e)| MapOp::PutFrontend(f, e)));
    ops.extend(changed(&actual.addresses, &desired.addresses).map(|(&a, &f)| MapOp::PutAddress(a, f)));
    ops.extend(gone(&actual.addresses, &desired.addresses).map(|(&a, _)| MapOp::DeleteAddress(a)));
    ops.extend(gone(&actual.frontends, &desired.frontends).map(|(&f, _)| MapOp::DeleteFrontend(f)));
    ops.extend(actual.prefixes.difference(&desired.prefixes).map(|&p| MapOp::DeletePrefix(p)));
    ops.extend(gone(&actual.maglevs, &desired.maglevs).map(|(&pages, _)| MapOp::FreeMaglev(pages)));
    ops.extend(gone(&actual.extents, &desired.extents).map(|(&e, _)| MapOp::FreeExtent(e)));
    let gone_backends = old.iter().filter(|(id, _)| !new.contains_key(id));
    ops.extend(gone_backends.map(|(id, backend)| MapOp::FreeBackend(id, *backend)));
    ops
}

/// Applies one op to tables. Every store does the same to its maps.
pub fn apply_op(tables: &mut Tables, op: &MapOp) {
    match op {
        MapOp::PutBackend(id, backend) => drop(tables.backends.insert(*id, *backend)),
        MapOp::PutExtent(extent, set) => drop(tables.extents.insert(*extent, Arc::clone(set))),
        MapOp::PutMaglev(pages, places) => drop(tables.maglevs.insert(*pages, digest(places))),
        MapOp::PutFrontend(frontend, entry) => drop(tables.frontends.insert(*frontend, *entry)),
        MapOp::PutAddress(addr, flags) => drop(tables.addresses.insert(*addr, *flags)),
        MapOp::PutPrefix(prefix) => drop(tables.prefixes.insert(*prefix)),
        MapOp::DeletePrefix(prefix) => drop(tables.prefixes.remove(prefix)),
        MapOp::DeleteFrontend(frontend) => drop(tables.frontends.remove(frontend)),
        MapOp::DeleteAddress(addr) => drop(tables.addresses.remove(addr)),
        MapOp::FreeExtent(extent) => drop(tables.extents.remove(extent)),
        MapOp::FreeMaglev(pages) => drop(tables.maglevs.remove(pages)),
        MapOp::ResetService(_) => {}
        MapOp::FreeBackend(id, _) => drop(tables.backends.remove(id)),
    }
}

fn changed<'a, K: Ord, V: PartialEq>(
    actual: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    desired.iter().filter(|(key, value)| actual.get(key) != Some(value))
}

fn gone<'a, K: Ord, V>(
    actual: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    actual.iter().filter(|(key, _)| !desired.contains_key(key))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;
    use svc_common::abi::{AddressFlags, BackendId, FrontendFlags, Locality, Scope, ServicePortId};
    use svc_common::addr::Proto;

    use super::*;
    use crate::plan::tables::{Backend, Frontend, FrontendEntry};

    fn ip(n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
    }

    /// Tables as the ids make them: a set of backends always has the same place, and no other set has it.
    fn arb_tables() -> impl Strategy<Value = Tables> {
        let frontends = proptest::collection::btree_map(0_u8..12, (0_u8..16, 0_u8..16, 1_u32..5), 0..8);
        let addrs = proptest::collection::btree_map(0_u8..6, 0_u32..4, 0..4);
        (frontends, addrs, proptest::bool::ANY).prop_map(|(frontends, addrs, moved)| {
            let mut tables = Tables::default();
            for (n, (cluster, local, service)) in frontends {
                let mut extent = |bits: u8| {
                    let set: Vec<BackendId> =
                        (0..4).filter(|b| bits & (1 << b) != 0).map(|b| BackendId(b + 1)).collect();
                    for id in &set {
                        let locality = if moved { Locality::LOCAL } else { Locality::REMOTE };
                        tables.backends.insert(*id, Backend { addr: ip(id.0 as u8), port: 80, locality });
                    }
                    let place = Extent { first: u32::from(bits) * 4, count: set.len() as u32 };
                    match place.count {
                        0 => Extent::default(),
                        _ => (tables.extents.insert(place, set.into()), place).1,
                    }
                };
                let entry = FrontendEntry {
                    service: ServicePortId(service),
                    flags: FrontendFlags::NONE,
                    cluster: extent(cluster),
                    local: extent(local),
                    maglev: Extent::default(),
                    affinity: 0,
                };
                let frontend =
                    Frontend { addr: ip(100 + n), port: 80, proto: Proto::TCP, scope: Scope::ADDRESS };
                tables.frontends.insert(frontend, entry);
            }
            tables.addresses = addrs.into_iter().map(|(n, f)| (ip(200 + n), AddressFlags(f))).collect();
            tables
        })
    }

    fn assert_whole(tables: &Tables) {
        for entry in tables.frontends.values() {
            for extent in [entry.cluster, entry.local, entry.maglev].into_iter().filter(|e| e.count > 0) {
                let set = tables.extents.get(&extent).expect("a frontend names a missing extent");
                assert!(
                    set.iter().all(|id| tables.backends.contains_key(id)),
                    "an extent names a missing backend"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn applying_the_difference_makes_the_tables_equal(actual in arb_tables(), desired in arb_tables()) {
            let mut tables = actual.clone();
            for op in plan_diff(&actual, &desired, |_| None) {
                apply_op(&mut tables, &op);
                assert_whole(&tables);
            }
            prop_assert_eq!(tables, desired);
        }

        #[test]
        fn equal_tables_have_no_difference(tables in arb_tables()) {
            prop_assert!(plan_diff(&tables, &tables, |_| None).is_empty());
        }
    }
}
