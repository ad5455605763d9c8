//! The book: the requested and granted resources of every Service. A change touches only the Services that it names and
//! their rivals for an address. The tables are the sum of all pages.

mod demand;
mod give;
mod moved_backends;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use imbl::OrdMap;
use svc_common::abi::{BackendId, Extent, Locality, PrefixList, Scope, ServicePortId};

use self::demand::Demand;
use self::uses::Uses;
use super::affinity::AffinityBackends;
use super::capacity::Capacity;
use super::claims::{Claimant, Claims, PortOf, owner_of};
use super::ids::Ids;
use super::maglev::plan_maglev;
use super::node_ports::plan_node_addresses;
use super::prefixes::listed;
use super::serving::Serving;
use super::settings::Settings;
use super::tables::{Frontend, MapOp, Prefix, Tables};
use super::time::PlanTime;
use super::tracked::{TrackedTables, repack};
use crate::model::complaint::Complaint;
use crate::model::name::{ServiceName, ServicePortKey};
use crate::model::service::Service;
use crate::model::world::World;

/// Most UDP frontends without endpoints that are remembered. If there are more, every frontend that gets endpoints
/// counts as one that had others before.
const EMPTIED: usize = 65_536;

/// The grants of a service port in one family.
#[derive(Clone, Debug)]
struct Grant {
    of: PortOf,
    service: ServicePortId,
    /// With whether each is for clients outside the cluster.
    frontends: Box<[(Frontend, bool)]>,
    published: Box<[(BackendId, Locality)]>,
    extents: [Extent; 2],
    /// The extents over which it has a Maglev table.
    maglevs: [Extent; 2],
    affinity_backends: Box<[BackendId]>,
    prefixes: Box<[Prefix]>,
}

/// A Service with its granted resources.
#[derive(Clone, Debug)]
struct Page {
    service: Arc<Service>,
    grants: Box<[Grant]>,
}

/// The changes of the world.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub services: BTreeSet<ServiceName>,
    /// The node's object or addresses: every Service may depend on them.
    pub node: bool,
}

impl Changes {
    pub fn between(before: &World, now: &World) -> Self {
        Self { services: now.changed_services(before), node: now.is_other_node(before) }
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.node
    }
}

/// The work that a change makes necessary.
#[derive(Debug, Default)]
pub struct Turn {
    /// Make before break: the tables are whole after every prefix.
    pub ops: Vec<MapOp>,
    /// The complaints about each Service that was planned.
    pub complaints: Vec<(ServiceName, Vec<Complaint>)>,
    /// Addresses of the node for which there is no room.
    pub node_addresses_left_out: usize,
    /// Services that were planned.
    pub planned: usize,
}

#[derive(Clone, Debug)]
pub struct Book {
    settings: Settings,
    ids: Ids,
    claims: Claims,
    pages: BTreeMap<ServiceName, Page>,
    uses: Uses,
    tables: TrackedTables,
    serving: Serving,
    affinity_backends: AffinityBackends,
    /// UDP frontends that had endpoints and have none.
    emptied: BTreeSet<Frontend>,
    has_forgotten_emptied: bool,
    /// Services that found no room, and how much they need.
    waiting: BTreeMap<ServiceName, Demand>,
    node_addresses_wait: bool,
    waiting_tried: PlanTime,
    /// Entries have been removed since the waiting Services were tried.
    has_freed: bool,
    /// Tables were found in the kernel and not yet planned.
    is_restoring: bool,
    udp_losses: u64,
    affinity_losses: u64,
}

impl Book {
    /// Begins with the tables that the kernel holds.
    pub fn new(found: Tables, capacity: Capacity, settings: Settings) -> Self {
        Self {
            settings,
            ids: Ids::restored(&found, capacity),
            claims: Claims::default(),
            pages: BTreeMap::new(),
            uses: Uses::restored(&found),
            tables: TrackedTables::new(found),
            serving: Serving::new(),
            affinity_backends: AffinityBackends::new(),
            emptied: BTreeSet::new(),
            has_forgotten_emptied: false,
            waiting: BTreeMap::new(),
            node_addresses_wait: false,
            waiting_tried: PlanTime::default(),
            has_freed: false,
            is_restoring: true,
            udp_losses: 0,
            affinity_losses: 0,
        }
    }

    pub const fn tables(&self) -> &Tables {
        self.tables.get()
    }

    /// Takes over other settings. The next turn must count the node as changed, because every Service depends on it.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub const fn serving(&self) -> &Serving {
        &self.serving
    }

    pub const fn affinity_backends(&self) -> &AffinityBackends {
        &self.affinity_backends
    }

    /// Service ids by service port.
    pub const fn services(&self) -> &OrdMap<ServicePortKey, ServicePortId> {
        self.ids.services()
    }

    /// Grows when a UDP frontend loses an endpoint, and when an endpoint moves to another node: only then can a flow be
    /// stale.
    pub const fn udp_losses(&self) -> u64 {
        self.udp_losses + self.uses.moves().count()
    }

    /// Backends that were on this node and are on another one now, with the same address and port.
    pub const fn moved_away(&self) -> &Arc<BTreeSet<SocketAddr>> {
        self.uses.moves().away()
    }

    /// Grows when a service port with session affinity loses an endpoint: only then can an affinity entry be stale.
    pub const fn affinity_losses(&self) -> u64 {
        self.affinity_losses
    }

    /// Plans the changes, and the Services that wait for room if there may be room now. The first turn plans
    /// everything.
    pub fn turn(&mut self, world: &World, changes: &Changes, now: PlanTime) -> Turn {
        let is_whole = self.is_restoring || changes.node;
        let mut work: BTreeSet<ServiceName> = match is_whole {
            true => world.services.keys().chain(self.pages.keys()).cloned().collect(),
            false => changes.services.clone(),
        };
        if is_whole || self.next_try(now).is_some_and(|at| at <= now) {
            work.extend(self.waiting.keys().cloned());
            self.waiting_tried = now;
        }
        self.has_freed = false;
        let mut turn = Turn::default();
        if is_whole || self.node_addresses_wait {
            turn.node_addresses_left_out = self.plan_node(world);
        }
        self.register_claims(world, &mut work);
        let owners = self.owners(world, &work);
        let mut old: Vec<(&ServiceName, Option<Page>)> = Vec::new();
        let mut given: BTreeSet<Frontend> = BTreeSet::new();
        for name in &work {
            let before = self.pages.remove(name);
            self.waiting.remove(name);
            let mut complaints = Vec::new();
            if let Some(service) = world.services.get(name) {
                let page = self.give_page(world, service, before.as_ref(), &owners, now, &mut complaints);
                given.extend(page.grants.iter().flat_map(|g| g.frontends.iter().map(|(f, _)| *f)));
                self.pages.insert(name.clone(), page);
            }
            old.push((name, before));
            turn.complaints.push((name.clone(), complaints));
        }
        turn.planned = work.len();
        for (name, before) in old {
            if let Some(before) = &before {
                self.release_page(before, &given);
            }
            self.refresh_affinity_backends(name, before.as_ref());
        }
        if self.is_restoring {
            self.end_restoring(&given);
        }
        self.uses.remove_idle(&mut self.tables, &mut self.ids);
        turn.ops = self.tables.take_ops();
        self.has_freed = turn.ops.iter().any(is_removal);
        turn
    }

    /// The kernel holds the planned tables. Released numbers and places may be used again after a grace.
    pub fn release(&mut self, now: PlanTime) {
        self.ids.release(now);
    }

    /// The next time at which waiting Services may find room. It is in the past if room has come since their last try.
    pub fn next_try(&self, now: PlanTime) -> Option<PlanTime> {
        if self.waiting.is_empty() && !self.node_addresses_wait {
            None
        } else if self.has_freed {
            Some(now)
        } else {
            self.ids.next_usable(self.waiting_tried)
        }
    }

    /// Services that wait for room.
    pub fn waiting(&self) -> impl Iterator<Item = &ServiceName> {
        self.waiting.keys()
    }

    /// The places of a Maglev table, computed anew.
    pub fn maglev(&self, pages: Extent) -> Option<Arc<[u16]>> {
        let (_, over) = self.uses.maglevs().find(|(p, _)| *p == pages)?;
        let set = self.tables().extents.get(&over)?;
        let backend = |id| self.tables().backends.get(id).map(|b| (b.addr, b.port));
        let backends = set.iter().map(backend).collect::<Option<Vec<_>>>()?;
        Some(plan_maglev(&backends).into())
    }

    /// Plans the addresses and prefixes of the node itself. Returns the number of addresses without room.
    fn plan_node(&mut self, world: &World) -> usize {
        let own = plan_node_addresses(&self.settings.node_port_addresses, &world.node, &world.addresses);
        let left_out = self.uses.set_own(&mut self.tables, own, self.ids.capacity.addresses);
        self.node_addresses_wait = left_out > 0;
        let lists = [
            (PrefixList::SERVICE_CIDRS, self.settings.service_cidrs.0.as_slice()),
            (PrefixList::POOLS, self.settings.pools.as_slice()),
            (PrefixList::LOCAL_PODS, self.settings.local_pods.prefixes(&world.node)),
        ];
        for (list, nets) in lists {
            let wanted: BTreeSet<Prefix> = listed(list, nets).collect();
            let known: Vec<Prefix> =
                self.tables().prefixes.iter().filter(|p| p.list == list).copied().collect();
            known.iter().filter(|p| !wanted.contains(p)).for_each(|p| self.tables.set_prefix(*p, false));
            wanted.iter().filter(|p| !known.contains(p)).for_each(|p| self.tables.set_prefix(*p, true));
        }
        left_out
    }

    /// Brings the claims up to date; rivals for an address of a Service at work are at work too.
    fn register_claims(&mut self, world: &World, work: &mut BTreeSet<ServiceName>) {
        let mut rivals = BTreeSet::new();
        for name in work.iter() {
            let (before, now) = (self.pages.get(name).map(|p| &p.service), world.services.get(name));
            if before.is_some_and(|before| now.is_some_and(|now| Arc::ptr_eq(before, now))) {
                continue;
            }
            if let Some(before) = before {
                let contested = self.claims.contested(before).collect::<Vec<_>>();
                rivals.extend(contested.iter().flat_map(|f| claimants(&self.claims, f)));
                self.claims.remove(before);
            }
            now.into_iter().for_each(|now| self.claims.add(now));
        }
        for name in work.iter() {
            if let Some(now) = world.services.get(name) {
                let contested = self.claims.contested(now);
                rivals.extend(contested.flat_map(|f| claimants(&self.claims, &f)));
            }
        }
        work.extend(rivals);
    }

    /// Decides which claimant gets each frontend with several claims, before any change.
    fn owners(&self, world: &World, work: &BTreeSet<ServiceName>) -> BTreeMap<Frontend, Claimant> {
        let services = work.iter().filter_map(|name| world.services.get(name));
        let contested: BTreeSet<Frontend> = services.flat_map(|s| self.claims.contested(s)).collect();
        let owner = |f: Frontend| {
            let owner = owner_of(self.claims.of(&f), |c| self.holds(c, &f))?;
            Some((f, owner.clone()))
        };
        contested.into_iter().filter_map(owner).collect()
    }

    /// In the tables the frontend belongs to this service port now.
    fn holds(&self, claimant: &Claimant, frontend: &Frontend) -> bool {
        let id_at = |f: &Frontend| self.tables().frontends.get(f).map(|entry| entry.service);
        let Some(held_by) = id_at(frontend) else { return false };
        match self.ids.services().get(&claimant.of.key()) {
            Some(id) => *id == held_by,
            // After a restart no service port has an id yet. It is recognised by an address that only it claims.
            None => {
                let claims = claimant.of.claims();
                claims
                    .iter()
                    .any(|c| self.claims.of(&c.frontend).len() == 1 && id_at(&c.frontend) == Some(held_by))
            }
        }
    }

    /// Releases the resources of an old page. `given`: frontends that were granted in this turn.
    fn release_page(&mut self, page: &Page, given: &BTreeSet<Frontend>) {
        let now: Vec<PortOf> = self
            .pages
            .get(&page.service.name)
            .map(|page| page.grants.iter().map(|g| g.of.clone()).collect())
            .unwrap_or_default();
        for grant in &page.grants {
            self.release_grant(grant, given);
            let key = grant.of.key();
            if !now.iter().any(|of| of.key() == key) {
                self.ids.retire_service(&key);
            }
        }
    }

    fn release_grant(&mut self, grant: &Grant, given: &BTreeSet<Frontend>) {
        for &(frontend, is_external) in &grant.frontends {
            if frontend.scope == Scope::ADDRESS {
                self.uses.release_address(&mut self.tables, frontend.addr, is_external);
            }
            if !given.contains(&frontend) {
                self.tables.set_frontend(frontend, None);
                self.set_serving(frontend, None);
            }
        }
        let kept = self.pages.get(&grant.of.service.name);
        let is_kept = |prefix: &Prefix| {
            kept.is_some_and(|page| page.grants.iter().any(|g| g.prefixes.contains(prefix)))
        };
        let gone: Vec<Prefix> = grant.prefixes.iter().filter(|p| !is_kept(p)).copied().collect();
        gone.into_iter().for_each(|prefix| self.tables.set_prefix(prefix, false));
        grant
            .published
            .iter()
            .for_each(|(id, locality)| self.uses.unpublish(&mut self.tables, *id, *locality));
        grant.affinity_backends.iter().for_each(|id| self.uses.release_from_affinity(*id));
        grant.maglevs.iter().for_each(|over| self.uses.release_maglev(*over));
        grant.extents.iter().for_each(|extent| self.uses.release_extent(*extent));
    }

    /// Collects the backends that clients of a service port may keep: the endpoints of both its families.
    fn refresh_affinity_backends(&mut self, name: &ServiceName, before: Option<&Page>) {
        let now = self.pages.get(name);
        let grants = before.into_iter().chain(now).flat_map(|page| page.grants.iter());
        let ids: BTreeSet<ServicePortId> =
            grants.filter(|g| !g.affinity_backends.is_empty()).map(|g| g.service).collect();
        for id in ids {
            let of_id = now.into_iter().flat_map(|page| page.grants.iter()).filter(|g| g.service == id);
            let affinity_backends: BTreeSet<BackendId> =
                of_id.flat_map(|g| g.affinity_backends.iter().copied()).collect();
            let before = self.affinity_backends.get(&id);
            if before.is_some_and(|before| !before.is_subset(&affinity_backends)) {
                self.affinity_losses += 1;
            }
            if affinity_backends.is_empty() {
                self.affinity_backends.remove(&id);
            } else if before.is_none_or(|before| **before != affinity_backends) {
                self.affinity_backends.insert(id, Arc::new(affinity_backends));
            }
        }
    }

    fn set_serving(&mut self, frontend: Frontend, set: Option<Arc<BTreeSet<SocketAddr>>>) {
        let before = self.serving.get(&frontend);
        match set {
            Some(set) => {
                let is_loss = match before {
                    Some(before) => !before.is_subset(&set),
                    None => self.emptied.remove(&frontend) || self.has_forgotten_emptied,
                };
                if is_loss {
                    self.udp_losses += 1;
                }
                if before.is_none_or(|before| *before != set) {
                    self.serving.insert(frontend, set);
                }
            }
            None if before.is_some() => {
                self.serving.remove(&frontend);
                if self.emptied.len() < EMPTIED {
                    self.emptied.insert(frontend);
                } else {
                    self.has_forgotten_emptied = true;
                }
            }
            None => {}
        }
    }

    /// Removes restored entries that no Service claims. Flows and affinity of an earlier daemon may be stale.
    fn end_restoring(&mut self, given: &BTreeSet<Frontend>) {
        let frontends: Vec<Frontend> =
            self.tables().frontends.keys().filter(|f| !given.contains(f)).copied().collect();
        frontends.into_iter().for_each(|f| self.tables.set_frontend(f, None));
        self.uses.remove_unknown_addresses(&mut self.tables);
        let held: BTreeSet<Prefix> = self
            .pages
            .values()
            .flat_map(|p| p.grants.iter())
            .flat_map(|g| g.prefixes.iter().copied())
            .collect();
        let of_node = [PrefixList::SERVICE_CIDRS, PrefixList::POOLS, PrefixList::LOCAL_PODS];
        let is_of_node = |p: &Prefix| of_node.contains(&p.list);
        let prefixes: Vec<Prefix> =
            self.tables().prefixes.iter().filter(|p| !is_of_node(p) && !held.contains(p)).copied().collect();
        prefixes.into_iter().for_each(|p| self.tables.set_prefix(p, false));
        let maglevs: BTreeSet<Extent> = self.uses.maglevs().map(|(pages, _)| pages).collect();
        let unused: Vec<Extent> =
            self.tables().maglevs.keys().filter(|pages| !maglevs.contains(pages)).copied().collect();
        unused.into_iter().for_each(|pages| self.tables.remove_maglev(pages));
        self.ids.end_restoring();
        self.is_restoring = false;
        repack(&mut self.pages);
        self.claims.repack();
        self.tables.repack();
        self.udp_losses += 1;
        self.affinity_losses += 1;
    }
}

fn claimants(claims: &Claims, frontend: &Frontend) -> Vec<ServiceName> {
    claims.of(frontend).iter().map(|c| c.of.service.name.clone()).collect()
}

const fn is_removal(op: &MapOp) -> bool {
    matches!(op, MapOp::DeleteAddress(_) | MapOp::DeleteFrontend(_) | MapOp::DeletePrefix(_))
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
