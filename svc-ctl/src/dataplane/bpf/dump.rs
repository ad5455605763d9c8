//! Reads the maps back. A pinned map may hold garbage: invalid entries are left out with one warning, and the next
//! comparison repairs them.

use std::collections::BTreeMap;
use std::io;

use ipnet::IpNet;
use svc_common::abi::*;

use super::{io_error, pages};
use crate::dataplane::encode::Encode;
use crate::dataplane::maps::{FamilyMaps, Maps};
use crate::dataplane::store::StoreError;
use crate::plan::maglev::digest;
use crate::plan::tables::{Backend, Frontend, FrontendEntry, Prefix, Tables};

/// Numbers of entries left out.
#[derive(Debug, Default, Eq, PartialEq)]
struct Ignored {
    extents: u32,
    maglevs: u32,
    prefixes: u32,
}

/// Reads all contents of the maps.
pub fn dump(maps: &mut Maps) -> Result<Tables, StoreError> {
    let (mut tables, mut ignored) = (Tables::default(), Ignored::default());
    let failed = |map: &'static str| move |source| StoreError { map, operation: "dump".to_owned(), source };
    dump_family(&maps.v4, &mut tables, &mut ignored).map_err(failed("maps of IPv4"))?;
    dump_family(&maps.v6, &mut tables, &mut ignored).map_err(failed("maps of IPv6"))?;
    dump_extents(maps, &mut tables, &mut ignored).map_err(failed("SELECTION, BACKENDS"))?;
    dump_maglevs(maps, &mut tables, &mut ignored).map_err(failed("MAGLEV"))?;
    if ignored != Ignored::default() {
        tracing::warn!(
            ?ignored,
            "the pinned tables have invalid entries; they are ignored and will be rewritten"
        );
    }
    Ok(tables)
}

fn dump_family<A: Encode>(
    maps: &FamilyMaps<A>,
    tables: &mut Tables,
    ignored: &mut Ignored,
) -> io::Result<()> {
    maps.batches.frontends.each(|key, v| {
        tables.frontends.insert(frontend_of(key), entry_of(v));
    })?;
    maps.batches.addresses.each(|addr, flags| {
        tables.addresses.insert(addr.to_ip(), flags);
    })?;
    // Some kernels cannot read tries in batches.
    for entry in maps.prefixes.iter() {
        let (key, _) = entry.map_err(io_error)?;
        let PrefixKey { list, addr } = key.data();
        let bits = key.prefix_len().checked_sub(PrefixList::BITS).and_then(|bits| u8::try_from(bits).ok());
        match bits.and_then(|bits| IpNet::new(addr.to_ip(), bits).ok()) {
            Some(net) => drop(tables.prefixes.insert(Prefix { list, net })),
            None => ignored.prefixes += 1,
        }
    }
    Ok(())
}

/// The frontend for a map key.
pub(super) fn frontend_of<A: Encode>(key: FrontendKey<A>) -> Frontend {
    Frontend { addr: key.addr.to_ip(), port: key.port.number(), proto: key.proto, scope: key.scope }
}

/// The entry for a map value.
pub(super) const fn entry_of(value: FrontendValue) -> FrontendEntry {
    let FrontendValue { service, flags, cluster, local, maglev, affinity } = value;
    FrontendEntry { service, flags, cluster, local, maglev, affinity }
}

/// The extent is within a table of `len` entries.
fn fits(extent: Extent, len: u32) -> bool {
    u64::from(extent.first) + u64::from(extent.count) <= u64::from(len)
}

/// The extents that frontends name, without duplicates. True: IPv4 frontends name it.
fn named(tables: &Tables, of: impl Fn(&FrontendEntry) -> [Extent; 2]) -> BTreeMap<Extent, bool> {
    let all = tables.frontends.iter().flat_map(|(f, e)| of(e).map(|extent| (extent, f.addr.is_ipv4())));
    all.filter(|(extent, _)| extent.count != 0).collect()
}

/// Extents and backends are arrays: only slots that a frontend names are in use.
fn dump_extents(maps: &mut Maps, tables: &mut Tables, ignored: &mut Ignored) -> io::Result<()> {
    // Extents do not overlap, so together they are no longer than their table.
    let mut room = u64::from(maps.selection.len());
    for (extent, is_v4) in named(tables, |entry| [entry.cluster, entry.local]) {
        let is_possible = fits(extent, maps.selection.len()) && u64::from(extent.count) <= room;
        match is_possible {
            true => room -= u64::from(extent.count),
            false => {
                ignored.extents += 1;
                continue;
            }
        }
        let mut ids = Vec::with_capacity(extent.count as usize);
        for place in extent.first..extent.first + extent.count {
            ids.push(BackendId(maps.selection.get(place)?));
        }
        let len = if is_v4 { maps.v4.backends.len() } else { maps.v6.backends.len() };
        if ids.iter().any(|id| id.0 >= len) {
            ignored.extents += 1;
            continue;
        }
        for id in &ids {
            let backend = if is_v4 { get_backend(&mut maps.v4, *id) } else { get_backend(&mut maps.v6, *id) };
            tables.backends.insert(*id, backend?);
        }
        tables.extents.insert(extent, ids.into());
    }
    Ok(())
}

fn dump_maglevs(maps: &mut Maps, tables: &mut Tables, ignored: &mut Ignored) -> io::Result<()> {
    let mut room = u64::from(maps.maglev.len());
    for extent in named(tables, |entry| [entry.maglev; 2]).into_keys() {
        if !fits(extent, maps.maglev.len()) || u64::from(extent.count) > room {
            ignored.maglevs += 1;
            continue;
        }
        room -= u64::from(extent.count);
        tables.maglevs.insert(extent, digest(&pages::get(&mut maps.maglev, extent)?));
    }
    Ok(())
}

pub(super) fn get_backend<A: Encode>(maps: &mut FamilyMaps<A>, id: BackendId) -> io::Result<Backend> {
    let value = maps.backends.get(id.0)?;
    Ok(Backend { addr: value.addr.to_ip(), port: value.port.number(), locality: value.locality })
}
