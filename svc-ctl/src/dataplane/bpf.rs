//! The kernel's maps as a [`MapStore`].

use std::io;
use std::net::IpAddr;

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use svc_common::abi::*;
use svc_common::addr::Port;

use super::encode::{self, Encode};
use super::maps::{FamilyMaps, Maps};
use super::store::{MapStore, StoreError};
use crate::plan::tables::{Backend, Frontend, FrontendEntry, MapOp, Prefix, Tables};

/// `BPF_ANY`.
const ANY: u64 = 0;

/// Writes and reads the pinned maps.
pub struct BpfStore(pub Maps);

impl MapStore for BpfStore {
    fn apply(&mut self, ops: &[MapOp]) -> (usize, Result<(), StoreError>) {
        for (done, op) in ops.iter().enumerate() {
            if let Err(source) = self.apply_one(op) {
                let (map, operation) = describe(op);
                return (done, Err(StoreError { map, operation, source }));
            }
        }
        (ops.len(), Ok(()))
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        let mut tables = Tables::default();
        let failed =
            |map: &'static str| move |source| StoreError { map, operation: "dump".to_owned(), source };
        dump_family(&self.0.v4, &mut tables).map_err(failed("maps of IPv4"))?;
        dump_family(&self.0.v6, &mut tables).map_err(failed("maps of IPv6"))?;
        self.dump_extents(&mut tables).map_err(failed("SELECTION, BACKENDS"))?;
        Ok(tables)
    }
}

impl BpfStore {
    fn apply_one(&mut self, op: &MapOp) -> io::Result<()> {
        let maps = &mut self.0;
        match op {
            MapOp::PutBackend(id, backend) => match backend.addr {
                IpAddr::V4(a) => put_backend(&mut maps.v4, *id, backend, encode::v4(a)),
                IpAddr::V6(a) => put_backend(&mut maps.v6, *id, backend, encode::v6(a)),
            },
            MapOp::PutExtent(extent, ids) => {
                for (place, id) in (extent.first..).zip(ids) {
                    maps.selection.set(place, id.0, ANY).map_err(io_error)?;
                }
                Ok(())
            }
            MapOp::PutFrontend(f, entry) => match f.addr {
                IpAddr::V4(a) => put_frontend(&mut maps.v4, f, entry, encode::v4(a)),
                IpAddr::V6(a) => put_frontend(&mut maps.v6, f, entry, encode::v6(a)),
            },
            MapOp::DeleteFrontend(f) => match f.addr {
                IpAddr::V4(a) => gone(maps.v4.frontends.remove(&frontend_key(f, encode::v4(a)))),
                IpAddr::V6(a) => gone(maps.v6.frontends.remove(&frontend_key(f, encode::v6(a)))),
            },
            MapOp::PutAddress(addr, flags) => match addr {
                IpAddr::V4(a) => maps.v4.addresses.insert(encode::v4(*a), *flags, ANY).map_err(io_error),
                IpAddr::V6(a) => maps.v6.addresses.insert(encode::v6(*a), *flags, ANY).map_err(io_error),
            },
            MapOp::DeleteAddress(addr) => match addr {
                IpAddr::V4(a) => gone(maps.v4.addresses.remove(&encode::v4(*a))),
                IpAddr::V6(a) => gone(maps.v6.addresses.remove(&encode::v6(*a))),
            },
            MapOp::PutPrefix(Prefix { list, net }) => match net.addr() {
                IpAddr::V4(a) => put_prefix(&mut maps.v4, *list, *net, encode::v4(a)),
                IpAddr::V6(a) => put_prefix(&mut maps.v6, *list, *net, encode::v6(a)),
            },
            MapOp::DeletePrefix(Prefix { list, net }) => match net.addr() {
                IpAddr::V4(a) => gone(maps.v4.prefixes.remove(&prefix_key(*list, *net, encode::v4(a)))),
                IpAddr::V6(a) => gone(maps.v6.prefixes.remove(&prefix_key(*list, *net, encode::v6(a)))),
            },
            // Array slots cannot be removed; nothing refers to them any more.
            MapOp::FreeExtent(_) | MapOp::FreeBackend(..) => Ok(()),
        }
    }

    /// Extents and backends are arrays: what a frontend names is there.
    fn dump_extents(&self, tables: &mut Tables) -> io::Result<()> {
        let named: Vec<(Extent, bool)> = tables
            .frontends
            .iter()
            .flat_map(|(f, e)| [e.cluster, e.local, e.maglev].map(|extent| (extent, f.addr.is_ipv4())))
            .filter(|(extent, _)| extent.count != 0)
            .collect();
        for (extent, is_v4) in named {
            if tables.extents.contains_key(&extent) {
                continue;
            }
            // What lies in a pin may be anything: an extent that does not fit into the table is none, and the next
            // difference puts the frontend right.
            if u64::from(extent.first) + u64::from(extent.count) > u64::from(self.0.selection.len()) {
                tracing::warn!(?extent, "a pinned frontend names places beyond the table");
                continue;
            }
            let mut ids = Vec::with_capacity(extent.count as usize);
            for place in extent.first..extent.first.saturating_add(extent.count) {
                let id = self.0.selection.get(&place, 0).map_err(io_error)?;
                let backend = if is_v4 { get_backend(&self.0.v4, id) } else { get_backend(&self.0.v6, id) };
                tables.backends.insert(BackendId(id), backend?);
                ids.push(BackendId(id));
            }
            tables.extents.insert(extent, ids);
        }
        Ok(())
    }
}

fn describe(op: &MapOp) -> (&'static str, String) {
    let map = match op {
        MapOp::PutBackend(..) | MapOp::FreeBackend(..) => "BACKENDS",
        MapOp::PutExtent(..) | MapOp::FreeExtent(_) => "SELECTION",
        MapOp::PutFrontend(..) | MapOp::DeleteFrontend(_) => "FRONTENDS",
        MapOp::PutPrefix(_) | MapOp::DeletePrefix(_) => "PREFIXES",
        MapOp::PutAddress(..) | MapOp::DeleteAddress(_) => "ADDRESSES",
    };
    (map, format!("{op:?}"))
}

fn io_error(err: MapError) -> io::Error {
    match err {
        MapError::SyscallError(err) => err.io_error,
        other => io::Error::other(other),
    }
}

/// A removal of what is not there has done its work.
fn gone(result: Result<(), MapError>) -> io::Result<()> {
    match result.map_err(io_error) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn frontend_key<A>(frontend: &Frontend, addr: A) -> FrontendKey<A> {
    FrontendKey { addr, port: Port::new(frontend.port), proto: frontend.proto, scope: frontend.scope }
}

fn put_frontend<A: MapAddr>(
    maps: &mut FamilyMaps<A>,
    f: &Frontend,
    e: &FrontendEntry,
    addr: A,
) -> io::Result<()> {
    let FrontendEntry { service, flags, cluster, local, maglev, affinity } = *e;
    let value = FrontendValue { service, flags, cluster, local, maglev, affinity };
    maps.frontends.insert(frontend_key(f, addr), value, ANY).map_err(io_error)
}

fn prefix_key<A: MapAddr>(list: PrefixList, net: IpNet, addr: A) -> Key<PrefixKey<A>> {
    Key::new(PrefixList::BITS + u32::from(net.prefix_len()), PrefixKey { list, addr })
}

fn put_prefix<A: MapAddr>(maps: &mut FamilyMaps<A>, list: PrefixList, net: IpNet, addr: A) -> io::Result<()> {
    maps.prefixes.insert(&prefix_key(list, net, addr), 1, ANY).map_err(io_error)
}

fn put_backend<A: MapAddr>(maps: &mut FamilyMaps<A>, id: BackendId, b: &Backend, addr: A) -> io::Result<()> {
    let value = BackendValue { addr, port: Port::new(b.port), locality: b.locality, _pad: 0 };
    maps.backends.set(id.0, value, ANY).map_err(io_error)
}

fn get_backend<A: Encode>(maps: &FamilyMaps<A>, id: u32) -> io::Result<Backend> {
    let value = maps.backends.get(&id, 0).map_err(io_error)?;
    Ok(Backend { addr: value.addr.to_ip(), port: value.port.number(), locality: value.locality })
}

fn dump_family<A: Encode>(maps: &FamilyMaps<A>, tables: &mut Tables) -> io::Result<()> {
    for entry in maps.frontends.iter() {
        let (key, v) = entry.map_err(io_error)?;
        let frontend =
            Frontend { addr: key.addr.to_ip(), port: key.port.number(), proto: key.proto, scope: key.scope };
        let FrontendValue { service, flags, cluster, local, maglev, affinity } = v;
        tables.frontends.insert(frontend, FrontendEntry { service, flags, cluster, local, maglev, affinity });
    }
    for entry in maps.addresses.iter() {
        let (addr, flags) = entry.map_err(io_error)?;
        tables.addresses.insert(addr.to_ip(), flags);
    }
    for entry in maps.prefixes.iter() {
        let (key, _) = entry.map_err(io_error)?;
        let PrefixKey { list, addr } = key.data();
        let bits = key.prefix_len().saturating_sub(PrefixList::BITS);
        // What lies in a pin may be anything; the next difference puts it right.
        if let Some(net) = u8::try_from(bits).ok().and_then(|bits| IpNet::new(addr.to_ip(), bits).ok()) {
            tables.prefixes.insert(Prefix { list, net });
        }
    }
    Ok(())
}
