//! Tables on real maps: refused writes, and inconsistent contents of pins.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::{Failed, Trial};
use svc_common::abi::*;
use svc_common::addr::{AddrV4, Port, Proto};
use svc_ctl::dataplane::bpf::BpfStore;
use svc_ctl::dataplane::map_set::MapSet;
use svc_ctl::dataplane::maps::Maps;
use svc_ctl::dataplane::pins::Pins;
use svc_ctl::dataplane::shapes::TableSizes;
use svc_ctl::dataplane::store::{MapStore as _, StoreError};
use svc_ctl::dataplane::sys;
use svc_ctl::plan::capacity::Capacity;
use svc_ctl::plan::diff::apply_op;
use svc_ctl::plan::tables::{Backend, Frontend, FrontendEntry, MapOp, Prefix, Tables};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the kernel's tables hold the written entries, of both families", written),
        trial("an op that the kernel refuses is named, and all others are done", refused),
        trial("invalid entries of a pinned table are ignored, and all others are read", torn),
        trial("a reader of pinned maps refuses one of another shape, and names it", misshapen),
    ]
}

pub fn trial(name: &str, test: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// A folder for pins that no other trial uses.
pub fn pins(name: &str) -> Result<Pins> {
    Pins::open(&Path::new("/sys/fs/bpf").join(name))
}

fn store(name: &str, sizes: &TableSizes) -> Result<BpfStore> {
    Ok(BpfStore(Maps::of(&MapSet::open_or_make(&pins(name)?, sizes)?)?))
}

fn v4(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}

fn frontend(addr: IpAddr) -> Frontend {
    Frontend { addr, port: 80, proto: Proto::TCP, scope: Scope::ADDRESS }
}

fn entry(cluster: Extent, maglev: Extent) -> FrontendEntry {
    let (flags, local) = (FrontendFlags::NONE, Extent::default());
    FrontendEntry { service: ServicePortId(1), flags, cluster, local, maglev, affinity: 0 }
}

/// Ops of every kind for both families, and the tables that they make.
pub fn ops() -> (Vec<MapOp>, Tables) {
    let mut ops = Vec::new();
    for (family, addr) in [v4(1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into()].into_iter().enumerate() {
        let ids = [1, 2, 3].map(|n| BackendId(family as u32 * 3 + n));
        let cluster = Extent { first: family as u32 * 3, count: 3 };
        let maglev = Extent { first: family as u32 * 2, count: 1 + family as u32 };
        let places = if maglev.count == 1 { 4_096 } else { 2_048 * maglev.count };
        let backend = |locality| Backend { addr, port: 8080, locality };
        ops.extend(ids.map(|id| MapOp::PutBackend(id, backend(Locality::REMOTE))));
        // Only the locality changes in place.
        ops.push(MapOp::PutBackend(ids[2], backend(Locality::LOCAL)));
        ops.push(MapOp::PutExtent(cluster, ids.to_vec().into()));
        ops.push(MapOp::PutMaglev(maglev, (0..places).map(|place| (place % 3) as u16).collect()));
        let net = ipnet::IpNet::new(addr, 24).expect("24 bits").trunc();
        ops.push(MapOp::PutPrefix(Prefix { list: PrefixList::SERVICE_CIDRS, net }));
        ops.push(MapOp::PutFrontend(frontend(addr), entry(cluster, Extent::default())));
        ops.push(MapOp::PutFrontend(frontend(addr), entry(cluster, maglev)));
        ops.push(MapOp::PutAddress(addr, AddressFlags::CLUSTER_IP));
    }
    ops.extend([MapOp::PutAddress(v4(9), AddressFlags::LOCAL), MapOp::DeleteAddress(v4(9))]);
    ops.extend([MapOp::DeleteAddress(v4(8)), MapOp::ResetService(ServicePortId(1))]);
    let mut tables = Tables::default();
    ops.iter().for_each(|op| apply_op(&mut tables, op));
    (ops, tables)
}

/// Fails with the first failed op.
pub fn all_done(failures: Vec<(usize, StoreError)>) -> Result<()> {
    failures
        .into_iter()
        .next()
        .map_or(Ok(()), |(index, error)| Err(anyhow!(error).context(format!("op {index}"))))
}

fn written() -> Result<()> {
    let mut store = store("written", &TableSizes::default())?;
    let (ops, tables) = ops();
    all_done(store.apply(&ops))?;
    ensure!(store.dump()? == tables, "read back: {:#?}", store.dump()?);
    // Applying them twice gives the same tables.
    all_done(store.apply(&ops))?;
    ensure!(store.dump()? == tables, "read back after the second time");
    let delete = [MapOp::DeleteFrontend(frontend(v4(1))), MapOp::DeleteFrontend(frontend(v4(7)))];
    all_done(store.apply(&delete))?;
    ensure!(store.dump()?.frontends.len() == 1, "deleted");
    Ok(())
}

fn refused() -> Result<()> {
    let capacity = Capacity { frontends: 4, backends: 8, selection: 8, maglev: 2, ..Capacity::default() };
    let mut store = store("refused", &TableSizes { capacity, flows: 1_024 })?;
    ensure!(store.capacity() == capacity, "capacity {:?}", store.capacity());
    let cluster = Extent { first: 0, count: 1 };
    let backend = Backend { addr: v4(100), port: 80, locality: Locality::REMOTE };
    let mut ops = vec![
        MapOp::PutBackend(BackendId(8), backend),
        MapOp::PutBackend(BackendId(7), backend),
        MapOp::PutExtent(Extent { first: 7, count: 2 }, vec![BackendId(7); 2].into()),
        MapOp::PutExtent(cluster, vec![BackendId(7)].into()),
        MapOp::PutMaglev(Extent { first: 1, count: 2 }, vec![0; 4_096].into()),
        MapOp::PutMaglev(Extent { first: 0, count: 1 }, vec![0; 4_095].into()),
    ];
    ops.extend((1..=6).map(|n| MapOp::PutFrontend(frontend(v4(n)), entry(cluster, Extent::default()))));
    ops.push(MapOp::PutAddress(v4(1), AddressFlags::CLUSTER_IP));
    let failures = store.apply(&ops);
    let failed: Vec<usize> = failures.iter().map(|(index, _)| *index).collect();
    ensure!(failed == [0, 2, 4, 5, 10, 11], "{failures:?}");
    let maps: BTreeSet<&str> = failures.iter().map(|(_, error)| error.map).collect();
    ensure!(maps == BTreeSet::from(["BACKENDS", "FRONTENDS", "MAGLEV", "SELECTION"]), "{maps:?}");
    let dump = store.dump()?;
    ensure!(dump.frontends.len() == 4 && dump.addresses.len() == 1 && dump.extents.len() == 1, "{dump:?}");
    Ok(())
}

fn torn() -> Result<()> {
    let mut store = store("torn", &TableSizes::default())?;
    let (ops, tables) = ops();
    all_done(store.apply(&ops))?;
    let value = |cluster, maglev| FrontendValue { cluster, maglev, ..FrontendValue::default() };
    let key = |n| FrontendKey {
        addr: AddrV4::new([10, 0, 1, n]),
        port: Port::new(80),
        proto: Proto::TCP,
        scope: Scope::ADDRESS,
    };
    let far = |first, count| Extent { first, count };
    store.0.selection.set(1_000, &u32::MAX)?;
    store.0.v4.frontends.insert(key(1), value(far(1_000, 1), far(0, 0)), 0)?;
    store.0.v4.frontends.insert(key(2), value(far(limits::SELECTION, 1), far(limits::MAGLEV, 1)), 0)?;
    store.0.v4.frontends.insert(key(3), value(far(u32::MAX, u32::MAX), far(u32::MAX, u32::MAX)), 0)?;
    let dump = store.dump()?;
    ensure!(dump.frontends.len() == tables.frontends.len() + 3, "{:?}", dump.frontends);
    ensure!(dump.extents == tables.extents && dump.maglevs == tables.maglevs, "{dump:?}");
    ensure!(dump.backends == tables.backends && dump.addresses == tables.addresses, "{dump:?}");
    Ok(())
}

fn misshapen() -> Result<()> {
    let pins = pins("read-misshapen")?;
    MapSet::open_or_make(&pins, &TableSizes::default())?;
    fs::remove_file(pins.map("IFACES"))?;
    let shape = sys::MapShape {
        name: "IFACES",
        kind: sys::MapKind::Hash,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        flags: 1,
    };
    sys::pin(sys::create_map(&shape)?.as_fd(), &pins.map("IFACES"))?;
    let error = MapSet::open(&pins).err().context("it was taken")?;
    ensure!(format!("{error:#}").contains("IFACES"), "{error:#}");
    Ok(())
}
