//! A kernel with a row's tables, and their contents as text.

use anyhow::{Result, anyhow};
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6, Proto};
use svc_common::family::{V4, V6};
use svc_ctl::dataplane::maps::FamilyMaps;
use svc_ctl::dataplane::store::MapStore as _;
use svc_ctl::plan::tables::{Backend, Frontend, FrontendEntry, MapOp, Prefix};

use super::affinity;
use super::carried::Carried;
use super::entries::{Entries, EntryTotals};
use super::flow::{Line, LineCodec, SERVICE, decode, encode};
use super::hash::SNAT_PORTS;
use super::kernel::{self, Kernel};
use super::maglev;
use super::place::{self, Family};
use super::row::{Row, Service, locality};
use super::tracked;
use super::wire::{Case, endpoint};

/// A kernel with a row's tables.
pub struct Lab {
    pub kernel: Kernel,
    affinity: affinity::Tables,
    tracked: tracked::Tables,
    carried: Carried,
    entries: Entries,
    /// The rows' names of the backends.
    backends: Backends,
}

impl Lab {
    pub fn new() -> Result<Self> {
        let kernel = Kernel::new(SNAT_PORTS)?;
        let affinity = affinity::Tables::open(&kernel.pins)?;
        let tracked = tracked::Tables::open(&kernel.pins)?;
        let (carried, entries) = (Carried::open(&kernel.pins)?, Entries::open(&kernel.pins)?);
        Ok(Self { kernel, affinity, tracked, carried, entries, backends: Backends::default() })
    }

    /// Empties every table and writes the row's contents.
    pub fn set_up(&mut self, row: &Row, case: Case) -> Result<()> {
        self.kernel.clear()?;
        self.affinity.clear()?;
        self.tracked.clear()?;
        self.backends = Backends::default();
        self.kernel.write_interfaces(row.has_snat_addresses, true, row.interfaces)?;
        let mut ops = Vec::new();
        for family in [Family::V4, Family::V6] {
            let both = AddressFlags(AddressFlags::LOCAL.0 | AddressFlags::NODE_PORT.0);
            for (host, flags) in
                [("node", both), ("node-b", AddressFlags::LOCAL), ("bridge", AddressFlags::LOCAL)]
            {
                ops.push(MapOp::PutAddress(place::address(host, family), flags));
            }
        }
        let hash = row.steps.first().map_or(0, |step| maglev::hash(&step.packet, case));
        let mut next = Next { place: 0, page: 3, hash };
        // The prefix of `vip` and its neighbors.
        let cidr = Prefix { list: PrefixList::SERVICE_CIDRS, net: place::prefix("vip/16", case.family) };
        ops.extend(row.has_service_cidr.then_some(MapOp::PutPrefix(cidr)));
        // A pool that holds an address of the node is in error, and must do no harm.
        let pools = ["vip/16", "node/24"].map(|net| place::prefix(net, case.family));
        let pools = pools.map(|net| MapOp::PutPrefix(Prefix { list: PrefixList::POOLS, net }));
        ops.extend(pools.into_iter().filter(|_| row.has_pools));
        for service in &row.services {
            put_service(service, case, &mut self.backends, &mut next, &mut ops);
        }
        let failed = self.kernel.store.apply(&ops);
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))?;
        for entry in &row.affinity_before {
            self.affinity.insert(entry, self.backends.id(entry.backend), case.family)?;
        }
        self.carried.reset(row.migration)?;
        let now = kernel::now();
        for flow in &row.carried_before {
            for line in flow.records(case, now, &|name| self.kernel.ifindex(name)) {
                self.mark(case.family, &line)?;
                self.carried.insert(case.family, &line)?;
            }
        }
        for flow in &row.tracked {
            let client = flow.records(case, now, &|name| self.kernel.ifindex(name)).into_iter().next();
            client.iter().try_for_each(|line| self.tracked.insert(case.family, line))?;
        }
        for flow in &row.before {
            for line in flow.records(case, now, &|name| self.kernel.ifindex(name)) {
                self.mark(case.family, &line)?;
                match case.family {
                    Family::V4 => insert(&mut self.kernel.store.0.v4, &line)?,
                    Family::V6 => insert(&mut self.kernel.store.0.v6, &line)?,
                }
            }
        }
        Ok(())
    }

    /// Marks the presence filter as svc would have before it made the record.
    fn mark(&mut self, family: Family, line: &Line) -> Result<()> {
        let presence = &mut self.kernel.store.0.presence;
        match family {
            Family::V4 => {
                let (key, record) = encode::<AddrV4>(line);
                Ok(presence.mark_flow::<V4>(&key, &record)?)
            }
            Family::V6 => {
                let (key, record) = encode::<AddrV6>(line);
                Ok(presence.mark_flow::<V6>(&key, &record)?)
            }
        }
    }

    pub fn service_counters(&self) -> ServiceCounters {
        self.kernel.store.0.service(SERVICE)
    }

    /// The flow tables of a family.
    pub fn flows(&self, family: Family) -> Result<Vec<Line>> {
        match family {
            Family::V4 => dump(&self.kernel.store.0.v4),
            Family::V6 => dump(&self.kernel.store.0.v6),
        }
    }

    /// The flow table of a family that is being replaced.
    pub fn carried(&self, family: Family) -> Result<Vec<Line>> {
        self.carried.flows(family)
    }

    /// No flow table is being replaced any more.
    pub fn end_migration(&mut self) -> Result<()> {
        self.carried.reset(Migration::NONE)
    }

    pub fn entry_totals(&self, family: Family) -> Result<EntryTotals> {
        self.entries.entry_totals(family, self.flows(family)?.len(), self.affinity(family)?.len())
    }

    /// Makes every session affinity entry expire that many seconds earlier.
    pub fn age_affinity(&mut self, seconds: u32) -> Result<()> {
        self.affinity.age(affinity::units(seconds))
    }

    /// The session affinity entries as text.
    pub fn affinity(&self, family: Family) -> Result<Vec<String>> {
        self.affinity.to_text(family, &|id| self.backends.name(id))
    }
}

/// The names of backends; the first has id 1.
#[derive(Default)]
struct Backends(Vec<&'static str>);

impl Backends {
    fn id(&mut self, name: &'static str) -> BackendId {
        let known = self.0.iter().position(|other| *other == name);
        let at = known.unwrap_or_else(|| (self.0.push(name), self.0.len() - 1).1);
        BackendId(at as u32 + 1)
    }

    fn name(&self, id: BackendId) -> String {
        let name = self.0.get((id.0 as usize).wrapping_sub(1));
        name.map_or_else(|| format!("backend {}", id.0), |name| (*name).to_owned())
    }
}

/// Positions of the next extent and the next Maglev table, and the hash of the row's first packet.
struct Next {
    place: u32,
    page: u32,
    hash: u32,
}

fn put_service(service: &Service, case: Case, known: &mut Backends, next: &mut Next, ops: &mut Vec<MapOp>) {
    let mut put = |backends: &[&'static str]| {
        let mut ids = Vec::new();
        for text in backends {
            let (addr, port) = endpoint(text, case);
            let id = known.id(text);
            ops.push(MapOp::PutBackend(id, Backend { addr, port, locality: locality(text) }));
            ids.push(id);
        }
        ids.sort();
        let extent = Extent { first: if ids.is_empty() { 0 } else { next.place }, count: ids.len() as u32 };
        next.place += extent.count;
        ops.push(MapOp::PutExtent(extent, ids.into()));
        extent
    };
    let (mut cluster, local) = (put(service.cluster), put(service.local));
    if service.is_torn {
        cluster = Extent { first: limits::SELECTION, count: 1 };
    }
    let (addr, port) = endpoint(service.frontend, case);
    let scope = if addr.is_unspecified() { Scope::NODE_PORT } else { Scope::ADDRESS };
    let Service { flags, affinity, .. } = *service;
    let list = PrefixList::sources_of(SERVICE);
    ops.extend(
        service
            .sources
            .iter()
            .map(|text| MapOp::PutPrefix(Prefix { list, net: place::prefix(text, case.family) })),
    );
    if scope == Scope::ADDRESS {
        // The node may have the address, too.
        let own =
            if locality(service.frontend) == Locality::HOST { AddressFlags::LOCAL } else { AddressFlags(0) };
        let is_external = flags.has(FrontendFlags::EXTERNAL);
        let kind = if is_external { AddressFlags::EXTERNAL_IP } else { AddressFlags::CLUSTER_IP };
        ops.push(MapOp::PutAddress(addr, own.with(kind)));
    }
    let maglev = service.maglev.map_or_else(Extent::default, |table| {
        let pages = Extent { first: next.page, count: table.pages };
        next.page += table.pages;
        ops.push(MapOp::PutMaglev(pages, table.places(next.hash)));
        pages
    });
    for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
        let entry = FrontendEntry { service: SERVICE, flags, cluster, local, maglev, affinity };
        ops.push(MapOp::PutFrontend(Frontend { addr, port, proto, scope }, entry));
    }
}

fn insert<A: LineCodec>(maps: &mut FamilyMaps<A>, line: &Line) -> Result<()> {
    let (key, record) = encode::<A>(line);
    let FlowRecord { state, .. } = record;
    // A flow that has ended was assured in most cases.
    let is_assured = state.is_assured(key.proto) || state.is_closing(key.proto);
    let table = if is_assured { &mut maps.flows } else { &mut maps.unassured };
    Ok(table.insert(key, record, 0)?)
}

fn dump<A: LineCodec>(maps: &FamilyMaps<A>) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in maps.flows.iter().chain(maps.unassured.iter()) {
        let (key, record) = entry?;
        lines.push(decode(&key, &record).map_err(|err| anyhow!(err))?);
    }
    Ok(lines)
}
