//! Grants a Service the resources that it asks for. A service port without room keeps its present resources, and other
//! service ports are not affected.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use svc_common::abi::{BackendId, Extent, Locality, PrefixList, Scope};

use super::{Book, Demand, Grant, Page};
use crate::model::complaint::{Complaint, Kind};
use crate::model::service::Service;
use crate::model::world::World;
use crate::plan::claims::{Claimant, PortOf};
use crate::plan::entry::{Shared, has_table};
use crate::plan::frontends::Claim;
use crate::plan::ids::Full;
use crate::plan::maglev;
use crate::plan::page::{Endpoints, plan_endpoints, policy_of};
use crate::plan::prefixes::{is_node_in_ranges, source_ranges};
use crate::plan::render::frontend_text;
use crate::plan::tables::{Frontend, Prefix};
use crate::plan::targets::Target;
use crate::plan::time::PlanTime;

/// Ids and places that were allocated for a service port.
struct Allocated {
    service: svc_common::abi::ServicePortId,
    begins: bool,
    cluster: (Extent, Vec<BackendId>),
    local: (Extent, Vec<BackendId>),
    affinity_backends: Vec<BackendId>,
    sources: Vec<Prefix>,
}

impl Book {
    pub(super) fn give_page(
        &mut self,
        world: &World,
        service: &Arc<Service>,
        before: Option<&Page>,
        owners: &BTreeMap<Frontend, Claimant>,
        now: PlanTime,
        complaints: &mut Vec<Complaint>,
    ) -> Page {
        let mut grants = Vec::new();
        for of in PortOf::all(service) {
            let mut claims = self.owned(&of, owners, complaints);
            leave_own_address(world, &of, &mut claims, complaints);
            if claims.is_empty() {
                continue;
            }
            let endpoints = needed(plan_endpoints(world, &of), &of, &claims);
            self.ids.begin();
            match self.take(world, &of, &claims, &endpoints, now) {
                Ok(allocated) => {
                    grants.push(self.grant(world, of, &claims, &endpoints, allocated, now, complaints))
                }
                Err(full) => {
                    self.ids.roll_back();
                    self.demand(&of, &claims, &endpoints);
                    let kept = self.keep(before, &of, &claims);
                    if kept.is_none() && before.is_none() {
                        // It may have got its id from before a restart.
                        self.ids.retire_service(&of.key());
                    }
                    let what =
                        if kept.is_some() { "it keeps its earlier endpoints" } else { "it is not served" };
                    complaints.push(no_room(&of, &full, what));
                    grants.extend(kept);
                }
            }
        }
        Page { service: Arc::clone(service), grants: grants.into() }
    }

    /// The claims that a service port has won. For each lost one a complaint names the owner.
    fn owned(
        &self,
        of: &PortOf,
        owners: &BTreeMap<Frontend, Claimant>,
        complaints: &mut Vec<Complaint>,
    ) -> Vec<Claim> {
        let mut owned = Vec::new();
        for (n, claim) in of.claims().into_iter().enumerate() {
            match owners.get(&claim.frontend) {
                None => owned.push(claim),
                // The same address twice in one Service is no conflict.
                Some(owner) if owner.of == *of => {
                    if usize::from(owner.claim) == n {
                        owned.push(claim);
                    }
                }
                Some(owner) => {
                    let frontend = frontend_text(&claim.frontend);
                    let reason = format!("{frontend} already belongs to Service {}", owner.of.key());
                    let name = &of.service.name;
                    complaints.push(Complaint::of_service(Kind::Refused, name, claim.field, reason));
                }
            }
        }
        owned
    }

    /// Takes ids and places, which may run out. The tables do not show them yet.
    fn take(
        &mut self,
        world: &World,
        of: &PortOf,
        claims: &[Claim],
        endpoints: &Endpoints,
        now: PlanTime,
    ) -> Result<Allocated, Full> {
        let frontends = claims.iter().map(|c| &c.frontend);
        let (service, begins) = self.ids.service(&of.key(), frontends, now)?;
        let cluster = self.take_extent(&endpoints.cluster, now)?;
        let local = self.take_extent(&endpoints.local, now)?;
        let sources: Vec<Prefix> = if claims.iter().any(|claim| claim.is_restricted) {
            let is_node_in = is_node_in_ranges(of.addresses(), &world.node, &world.addresses);
            source_ranges(service, of.addresses(), is_node_in)
        } else {
            Vec::new()
        };
        self.has_room(of, claims, &sources)?;
        let mut affinity_backends = Vec::new();
        if of.service.affinity.is_some() {
            for target in &endpoints.listed {
                affinity_backends.push(self.ids.backend(*target, now)?);
            }
        }
        Ok(Allocated { service, begins, cluster, local, affinity_backends, sources })
    }

    /// An extent, with the id of each target in the order of `targets`.
    fn take_extent(
        &mut self,
        targets: &[(Target, Locality)],
        now: PlanTime,
    ) -> Result<(Extent, Vec<BackendId>), Full> {
        let mut ids = Vec::with_capacity(targets.len());
        for (target, _) in targets {
            ids.push(self.ids.backend(*target, now)?);
        }
        let mut set = ids.clone();
        set.sort_unstable();
        Ok((self.ids.extent(&set, now)?, ids))
    }

    /// There is room in the hash tables for the new entries of this service port.
    fn has_room(&self, of: &PortOf, claims: &[Claim], sources: &[Prefix]) -> Result<(), Full> {
        let (family, tables, capacity) =
            (of.addresses().family() as usize, self.tables.get(), &self.ids.capacity);
        let frontends = claims.iter().filter(|c| !tables.frontends.contains_key(&c.frontend)).count();
        let addresses: BTreeSet<_> =
            published(claims).map(|f| f.addr).filter(|a| !tables.addresses.contains_key(a)).collect();
        let prefixes: BTreeSet<_> = sources.iter().filter(|p| !tables.prefixes.contains(p)).collect();
        let asked = [
            ("frontends", self.tables.frontends(), frontends, capacity.frontends),
            ("address", self.tables.addresses(), addresses.len(), capacity.addresses),
            ("prefix", self.tables.prefixes(), prefixes.len(), capacity.prefixes),
        ];
        let is_full = |(_, used, more, capacity): &(_, [usize; 2], usize, u32)| {
            *more > 0 && used[family] + more > *capacity as usize
        };
        match asked.into_iter().find(is_full) {
            Some((table, .., capacity)) => Err(Full { table, capacity }),
            None => Ok(()),
        }
    }

    /// Writes the allocated resources into the tables.
    #[expect(clippy::too_many_arguments, reason = "one service port's question and answer")]
    fn grant(
        &mut self,
        world: &World,
        of: PortOf,
        claims: &[Claim],
        endpoints: &Endpoints,
        allocated: Allocated,
        now: PlanTime,
        complaints: &mut Vec<Complaint>,
    ) -> Grant {
        let mut published = Vec::with_capacity(endpoints.cluster.len() + endpoints.local.len());
        for (targets, (extent, ids)) in
            [(&endpoints.cluster, &allocated.cluster), (&endpoints.local, &allocated.local)]
        {
            for (&(target, locality), &id) in targets.iter().zip(ids) {
                self.uses.publish(&mut self.tables, id, target, locality);
                published.push((id, locality));
            }
            self.hold(*extent, ids);
        }
        allocated.affinity_backends.iter().for_each(|id| self.uses.hold_for_affinity(*id));
        if allocated.begins {
            self.tables.begin_service(allocated.service);
        }
        let new: Vec<Prefix> =
            allocated.sources.iter().filter(|p| !self.tables().prefixes.contains(p)).copied().collect();
        new.into_iter().for_each(|p| self.tables.set_prefix(p, true));
        let family = of.addresses().family();
        let mut shared = Shared {
            service: allocated.service,
            policy: policy_of(&of),
            selection: of.service.selection.or(self.settings.selection),
            usable_anywhere: endpoints.usable_anywhere,
            cluster: allocated.cluster.0,
            local: allocated.local.0,
            maglev_cluster: Extent::default(),
            maglev_local: Extent::default(),
            affinity: of.service.affinity.map_or(0, NonZeroU32::get),
            masquerade: self.settings.masquerade,
            knows_pods: self.settings.local_pods.is_known(&world.node, family),
            is_node_in_ranges: is_node_in_ranges(of.addresses(), &world.node, &world.addresses),
        };
        let mut maglevs = [Extent::default(); 2];
        for is_local in [false, true] {
            if claims.iter().any(|c| has_table(shared.selection, c) && shared.is_local(c) == is_local) {
                let over = if is_local { shared.local } else { shared.cluster };
                let pages = self.hold_maglev(over, &of, now, complaints);
                maglevs[usize::from(is_local)] = if pages.count > 0 { over } else { Extent::default() };
                *(if is_local { &mut shared.maglev_local } else { &mut shared.maglev_cluster }) = pages;
            }
        }
        for claim in claims {
            self.tables.set_frontend(claim.frontend, Some(shared.entry(claim)));
            self.set_serving(claim.frontend, endpoints.serving.clone());
            if claim.frontend.scope == Scope::ADDRESS {
                self.uses.hold_address(&mut self.tables, claim.frontend.addr, claim.external);
            }
        }
        Grant {
            of,
            service: allocated.service,
            frontends: claims.iter().map(|c| (c.frontend, c.external)).collect(),
            published: published.into(),
            extents: [allocated.cluster.0, allocated.local.0],
            maglevs,
            affinity_backends: allocated.affinity_backends.into(),
            prefixes: allocated.sources.into(),
        }
    }

    fn hold(&mut self, extent: Extent, ids: &[BackendId]) {
        let mut set = ids.to_vec();
        set.sort_unstable();
        if let Some(set) = self.ids.set(&set).cloned() {
            self.uses.hold_extent(&mut self.tables, extent, &set);
        }
    }

    /// The Maglev table over an extent; without room for it there is none, and backends are chosen at random.
    fn hold_maglev(
        &mut self,
        over: Extent,
        of: &PortOf,
        now: PlanTime,
        complaints: &mut Vec<Complaint>,
    ) -> Extent {
        let Some(set) = self.tables().extents.get(&over).cloned() else { return Extent::default() };
        let known = self.tables.get();
        let backends: Vec<Target> =
            set.iter().filter_map(|id| known.backends.get(id)).map(|b| (b.addr, b.port)).collect();
        match self.uses.hold_maglev(&mut self.tables, &mut self.ids, over, || backends, now) {
            Ok(pages) => pages,
            Err(full) => {
                complaints.push(no_room(of, &full, "backends are chosen at random"));
                let maglev = maglev::pages(over.count as usize);
                self.waiting
                    .entry(of.service.name.clone())
                    .or_default()
                    .add(&Demand { maglev, ..Demand::default() });
                Extent::default()
            }
        }
    }

    /// Notes how much room is missing.
    fn demand(&mut self, of: &PortOf, claims: &[Claim], endpoints: &Endpoints) {
        let targets = endpoints.cluster.iter().chain(&endpoints.local).map(|(target, _)| target);
        let unknown: BTreeSet<&Target> =
            targets.chain(&endpoints.listed).filter(|t| self.ids.known_backend(t).is_none()).collect();
        let selection = of.service.selection.or(self.settings.selection);
        let places = endpoints.cluster.len().max(endpoints.local.len());
        let has_table = claims.iter().any(|claim| has_table(selection, claim));
        let demand = Demand {
            frontends: claims.len() as u32,
            backends: unknown.len() as u32,
            selection: (endpoints.cluster.len() + endpoints.local.len()) as u32,
            maglev: if has_table { maglev::pages(places) } else { 0 },
            services: 1,
            addresses: published(claims).count() as u32,
            prefixes: of.addresses().source_ranges.len() as u32,
        };
        self.waiting.entry(of.service.name.clone()).or_default().add(&demand);
    }

    /// Keeps the service port's grant for the frontends that it still owns. After a restart there is no grant: the
    /// kernel's entries are kept, if the ids agree.
    fn keep(&mut self, before: Option<&Page>, of: &PortOf, claims: &[Claim]) -> Option<Grant> {
        let owned = |frontend: &Frontend| claims.iter().any(|c| c.frontend == *frontend);
        let mut grant = match before.and_then(|page| page.grants.iter().find(|g| g.of.is_same_port(of))) {
            Some(grant) => grant.clone(),
            None if self.is_restoring => self.restored_grant(of, claims)?,
            None => return None,
        };
        grant.of = of.clone();
        grant.frontends = grant.frontends.iter().filter(|(f, _)| owned(f)).copied().collect();
        self.hold_again(&grant);
        Some(grant)
    }

    /// Counts the resources of a grant once more, because its old page will release them.
    fn hold_again(&mut self, grant: &Grant) {
        for &(id, locality) in &grant.published {
            if let Some(backend) = self.tables().backends.get(&id).copied() {
                self.uses.publish(&mut self.tables, id, (backend.addr, backend.port), locality);
            }
        }
        for extent in grant.extents {
            if let Some(set) = self.tables().extents.get(&extent).cloned() {
                self.uses.hold_extent(&mut self.tables, extent, &set);
            }
        }
        for id in &grant.affinity_backends {
            self.uses.hold_again_for_affinity(*id);
        }
        grant.maglevs.iter().for_each(|over| self.uses.hold_maglev_again(*over));
        for &(frontend, is_external) in &grant.frontends {
            self.set_serving(frontend, None);
            if frontend.scope == Scope::ADDRESS {
                self.uses.hold_address(&mut self.tables, frontend.addr, is_external);
            }
        }
    }

    fn restored_grant(&mut self, of: &PortOf, claims: &[Claim]) -> Option<Grant> {
        let service = *self.ids.services().get(&of.key())?;
        let tables = self.tables.get();
        let is_kept = |claim: &&Claim| {
            let entry = tables.frontends.get(&claim.frontend).filter(|e| e.service == service);
            entry.is_some_and(|e| {
                [e.cluster, e.local].iter().all(|x| x.count == 0 || self.ids.is_known(*x, tables))
            })
        };
        let kept: Vec<&Claim> = claims.iter().filter(is_kept).collect();
        let entries = kept.iter().filter_map(|c| tables.frontends.get(&c.frontend));
        let all: BTreeSet<Extent> =
            entries.clone().flat_map(|e| [e.cluster, e.local]).filter(|e| e.count > 0).collect();
        let has_affinity = entries.clone().any(|e| e.affinity != 0);
        let mut extents = all.iter().copied();
        let extents = [extents.next().unwrap_or_default(), extents.next().unwrap_or_default()];
        let ids: BTreeSet<BackendId> = extents
            .iter()
            .filter_map(|e| tables.extents.get(e))
            .flat_map(|set| set.iter().copied())
            .collect();
        let published = ids.iter().filter_map(|id| Some((*id, tables.backends.get(id)?.locality))).collect();
        let list = PrefixList::sources_of(service);
        let grant = Grant {
            of: of.clone(),
            service,
            frontends: kept.iter().map(|c| (c.frontend, c.external)).collect(),
            published,
            extents,
            maglevs: [Extent::default(); 2],
            affinity_backends: if has_affinity { ids.into_iter().collect() } else { Box::default() },
            prefixes: tables.prefixes.iter().filter(|p| p.list == list).copied().collect(),
        };
        let chosen_at_random: Vec<_> = kept
            .iter()
            .filter_map(|c| Some((c.frontend, *tables.frontends.get(&c.frontend)?)))
            .filter(|(_, entry)| entry.maglev.count > 0)
            .collect();
        let is_empty = grant.frontends.is_empty();
        for (frontend, mut entry) in chosen_at_random {
            entry.maglev = Extent::default();
            self.tables.set_frontend(frontend, Some(entry));
        }
        (!is_empty).then_some(grant)
    }
}

/// The addresses that the programs know by themselves; NodePorts are on the node's.
fn published(claims: &[Claim]) -> impl Iterator<Item = Frontend> + '_ {
    claims.iter().map(|claim| claim.frontend).filter(|f| f.scope == Scope::ADDRESS)
}

/// Lists that no frontend chooses from are not published.
fn needed(endpoints: Endpoints, of: &PortOf, claims: &[Claim]) -> Endpoints {
    let policy = policy_of(of);
    let is_local = |c: &Claim| if c.external { policy.external_local } else { policy.internal_local };
    let keep = |is_needed: bool, list: Vec<(Target, Locality)>| if is_needed { list } else { Vec::new() };
    Endpoints {
        cluster: keep(claims.iter().any(|c| !is_local(c) || c.external), endpoints.cluster),
        local: keep(claims.iter().any(is_local), endpoints.local),
        ..endpoints
    }
}

/// Removes the ClusterIP from the claims where the node has that address itself, as with NodeLocal DNSCache: packets to it
/// are for a server on the node.
fn leave_own_address(world: &World, of: &PortOf, claims: &mut Vec<Claim>, complaints: &mut Vec<Complaint>) {
    let ip = of.addresses().cluster_ip;
    if of.service.serves_own_address || !world.addresses.addrs.contains(&ip) {
        return;
    }
    claims.retain(|claim| claim.external || claim.frontend.addr != ip);
    let reason = format!(
        "{ip} is an address of this node and left to it; annotation svc/serve-own-address: \"true\" serves it"
    );
    complaints.push(Complaint::of_service(Kind::OwnAddress, &of.service.name, "spec.clusterIPs", reason));
}

fn no_room(of: &PortOf, full: &Full, what: &str) -> Complaint {
    let field = format!("spec.ports[{}]", of.port().name);
    Complaint::of_service(Kind::NoRoom, &of.service.name, field, format!("{full}: {what}"))
}
