//! (Snapshot, Ids) -> (Tables, Ids): what the kernel should hold. Pure; what cannot be had is a problem by name and
//! harms nothing else.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use svc_common::abi::{AddressFlags, BackendId, Extent, Locality, PrefixList, Scope};

use super::entry::{Masquerade, Shared};
use super::frontends::{Claim, plan_frontends};
use super::ids::{Full, Ids, Tick};
use super::maglev::plan_maglev;
use super::node_ports::{NodePortAddresses, plan_node_addresses};
use super::policy::{Categories, Policy, is_local, plan_categories};
use super::prefixes::{Cidrs, LocalPods, is_node_in_ranges, listed, source_ranges};
use super::serving::{Serving, serving_set};
use super::stays::Stays;
use super::tables::{Backend, Frontend, Prefix, Tables};
use crate::model::endpoint::{PortEndpoint, port_endpoints};
use crate::model::name::{IpFamily, ServiceName, ServicePortKey};
use crate::model::rejected::Rejected;
use crate::model::service::{Selection, Service, ServiceAddresses, ServicePort};
use crate::model::store::Snapshot;

/// What the operator sets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    pub node_port_addresses: NodePortAddresses,
    pub masquerade: Masquerade,
    pub local_pods: LocalPods,
    /// Where ClusterIPs come from, if what is sent to one that no Service has shall be dropped.
    pub service_cidrs: Cidrs,
    /// How backends are chosen where the Service does not say; by default for clients from outside by Maglev, for others
    /// at random.
    pub selection: Option<Selection>,
}

/// The outcome of a plan.
#[derive(Debug)]
pub struct Planned {
    pub tables: Tables,
    pub ids: Ids,
    /// Where UDP flows may stay.
    pub serving: Serving,
    /// Where clients may stay.
    pub stays: Stays,
    /// Addresses claimed twice, tables that are full.
    pub problems: Vec<Rejected>,
    /// Some table had no room: worth another try when places have come free.
    pub is_full: bool,
}

/// A service port in one family, with the frontends that it got.
struct Wanted<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    addresses: &'a ServiceAddresses,
    claims: Vec<Claim>,
}

/// Plans everything. `actual` is what the kernel holds: a service port for which there is no room keeps what it has.
pub fn plan_tables(
    snapshot: &Snapshot,
    settings: &Settings,
    actual: &Tables,
    ids: Ids,
    now: Tick,
) -> Planned {
    let mut problems = Vec::new();
    let wanted = plan_claims(snapshot, actual, &ids, &mut problems);
    let mut plan = Plan {
        snapshot,
        settings,
        actual,
        now,
        ids,
        tables: Tables::default(),
        serving: Serving::default(),
        stays: Stays::default(),
        problems,
        counts: [0; 2],
        address_counts: [0; 2],
        is_full: false,
    };
    plan.tables.addresses =
        plan_node_addresses(&settings.node_port_addresses, &snapshot.node, &snapshot.addresses);
    plan.check_addresses();
    plan.tables.prefixes.extend(listed(PrefixList::SERVICE_CIDRS, &settings.service_cidrs.0));
    plan.tables.prefixes.extend(listed(PrefixList::LOCAL_PODS, settings.local_pods.prefixes(&snapshot.node)));
    for one in &wanted {
        plan.add(one);
    }
    let Plan { mut ids, tables, serving, stays, problems, is_full, .. } = plan;
    ids.retire_unused(&tables, &stays);
    Planned { tables, ids, serving, stays, problems, is_full }
}

/// Gives every frontend to one service port. In the order of names.
fn plan_claims<'a>(
    snapshot: &'a Snapshot,
    actual: &Tables,
    ids: &Ids,
    problems: &mut Vec<Rejected>,
) -> Vec<Wanted<'a>> {
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for service in snapshot.services.values() {
        for addresses in &service.families {
            for port in &service.ports {
                wanted.push(Wanted { service, port, addresses, claims: plan_frontends(port, addresses) });
            }
        }
    }
    let mut claimants: BTreeMap<Frontend, Vec<Claimant>> = BTreeMap::new();
    for (w, one) in wanted.iter().enumerate() {
        for (c, claim) in one.claims.iter().enumerate() {
            let claimant =
                Claimant { external: claim.external, created: one.service.created, holds: false, w, c };
            claimants.entry(claim.frontend).or_default().push(claimant);
        }
    }
    let is_alone = |frontend: &Frontend| claimants.get(frontend).is_some_and(|all| all.len() == 1);
    let holds = |one: &Wanted<'_>, frontend: &Frontend| {
        let id_at = |frontend: &Frontend| actual.frontends.get(frontend).map(|entry| entry.service);
        let Some(held_by) = id_at(frontend) else { return false };
        match ids.services().get(&one.service.key(one.port)) {
            Some(id) => *id == held_by,
            // After a restart nobody has an id yet: it is known by an address that only it claims.
            None => one.claims.iter().any(|c| is_alone(&c.frontend) && id_at(&c.frontend) == Some(held_by)),
        }
    };
    let mut owners: BTreeMap<Frontend, (usize, usize)> = BTreeMap::new();
    let mut losers: Vec<(bool, usize, usize, usize)> = Vec::new();
    for (frontend, all) in &claimants {
        let held =
            |claimant: &Claimant| Claimant { holds: holds(&wanted[claimant.w], frontend), ..*claimant };
        let owner = match all.as_slice() {
            [only] => *only,
            all => owner_of(&all.iter().map(held).collect::<Vec<_>>()).unwrap_or(all[0]),
        };
        owners.insert(*frontend, (owner.w, owner.c));
        // The same address twice in one Service is no quarrel.
        let others = all.iter().filter(|claimant| claimant.w != owner.w);
        losers.extend(others.map(|loser| (loser.external, loser.w, loser.c, owner.w)));
    }
    losers.sort_unstable();
    for (_, w, c, owner) in losers {
        problems.push(claimed_twice(&wanted[w], &wanted[w].claims[c], &wanted[owner]));
    }
    for (w, one) in wanted.iter_mut().enumerate() {
        let mut c = 0;
        one.claims.retain(|claim| (owners.get(&claim.frontend) == Some(&(w, c)), c += 1).0);
    }
    wanted
}

/// One claim to a frontend, by its place in the list of service ports: the order of names.
#[derive(Clone, Copy, Debug)]
struct Claimant {
    external: bool,
    created: Option<i64>,
    /// The kernel leads the frontend to this service port now.
    holds: bool,
    w: usize,
    c: usize,
}

/// Who gets a frontend: a cluster address goes before all, the older Service before the younger where both ages are
/// known, then who has it, then the first by name. Two rounds, because age does not order those without.
fn owner_of(claimants: &[Claimant]) -> Option<Claimant> {
    let internal = claimants.iter().any(|c| !c.external);
    let entitled = || claimants.iter().filter(|c| c.external != internal).copied();
    let oldest = entitled().filter(|c| c.created.is_some()).min_by_key(|c| (c.created, !c.holds, c.w, c.c));
    let ageless = entitled().filter(|c| c.created.is_none());
    oldest.into_iter().chain(ageless).min_by_key(|c| (!c.holds, c.w, c.c))
}

fn claimed_twice(loser: &Wanted<'_>, claim: &Claim, owner: &Wanted<'_>) -> Rejected {
    let frontend = super::render::frontend_text(&claim.frontend);
    let reason = format!("{frontend} already belongs to Service {}", owner.service.key(owner.port));
    Rejected::new(format!("Service {}", loser.service.name), claim.field, reason)
}

/// The plan while it grows.
struct Plan<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    actual: &'a Tables,
    now: Tick,
    ids: Ids,
    tables: Tables,
    serving: Serving,
    stays: Stays,
    problems: Vec<Rejected>,
    /// Frontends per family.
    counts: [u32; 2],
    /// Addresses per family.
    address_counts: [u32; 2],
    is_full: bool,
}

/// A backend of a service port, before it has an id.
type Target = (IpAddr, u16, Locality);

impl Plan<'_> {
    fn check_addresses(&mut self) {
        for family in IpFamily::ALL {
            let capacity = self.ids.capacity.addresses as usize;
            let addrs: Vec<IpAddr> =
                self.tables.addresses.keys().copied().filter(|&a| IpFamily::of(a) == family).collect();
            if let Some(surplus) = addrs.get(capacity..).filter(|s| !s.is_empty()) {
                let full = Full { table: "address", capacity: capacity as u32 };
                self.problems.push(Rejected::new("Node", "", format!("{full}: {} left out", surplus.len())));
                self.tables.addresses.retain(|a, _| !surplus.contains(a));
            }
            let count = self.tables.addresses.keys().filter(|&&a| IpFamily::of(a) == family).count();
            self.address_counts[family as usize] = count as u32;
        }
    }

    fn add(&mut self, wanted: &Wanted<'_>) {
        if wanted.claims.is_empty() {
            return;
        }
        let key = wanted.service.key(wanted.port);
        self.ids.begin();
        if let Err(full) = self.try_add(wanted, &key) {
            self.ids.roll_back();
            self.is_full = true;
            let kept =
                if self.keep_actual(wanted, &key) { "it keeps what it has" } else { "it is not served" };
            let object = format!("Service {}", key.service);
            self.problems.push(Rejected::new(
                object,
                format!("spec.ports[{}]", key.port),
                format!("{full}: {kept}"),
            ));
        }
    }

    fn try_add(&mut self, wanted: &Wanted<'_>, key: &ServicePortKey) -> Result<(), Full> {
        let family = wanted.addresses.family();
        let capacity = self.ids.capacity.frontends;
        let count = self.counts[family as usize] + wanted.claims.len() as u32;
        if count > capacity {
            return Err(Full { table: "frontends", capacity });
        }
        let categories = self.categories(wanted, &key.service);
        let service = self.ids.service(key, wanted.claims.iter().map(|c| &c.frontend), self.now)?;
        let cluster = self.extent(&categories.cluster)?;
        let local = self.extent(&categories.local)?;
        let is_node_in_ranges =
            is_node_in_ranges(wanted.addresses, &self.snapshot.node, &self.snapshot.addresses);
        if wanted.claims.iter().any(|claim| claim.is_restricted) {
            self.restrict(family, source_ranges(service, wanted.addresses, is_node_in_ranges))?;
        }
        for claim in wanted.claims.iter().filter(|claim| claim.frontend.scope == Scope::ADDRESS) {
            let flag = if claim.external { AddressFlags::EXTERNAL_IP } else { AddressFlags::CLUSTER_IP };
            self.publish_address(claim.frontend.addr, flag)?;
        }
        let affinity = wanted.service.affinity.map_or(0, NonZeroU32::get);
        if affinity != 0 {
            // The last thing that may fail: what is rolled back is in nobody's hands yet.
            let listed = self.backend_ids(categories.listed.iter().copied())?;
            self.stays.entry(service).or_default().extend(listed);
        }
        let mut shared = Shared {
            service,
            policy: policy_of(wanted),
            selection: wanted.service.selection.or(self.settings.selection),
            usable_anywhere: categories.usable_anywhere,
            cluster,
            local,
            maglev_cluster: Extent::default(),
            maglev_local: Extent::default(),
            affinity,
            masquerade: self.settings.masquerade,
            knows_pods: self.settings.local_pods.is_known(&self.snapshot.node, family),
            is_node_in_ranges,
        };
        let tabled: Vec<bool> =
            wanted.claims.iter().filter(|c| shared.has_table(c)).map(|c| shared.is_local(c)).collect();
        if tabled.contains(&false) {
            shared.maglev_cluster = self.maglev(key, &categories.cluster);
        }
        if tabled.contains(&true) {
            shared.maglev_local = self.maglev(key, &categories.local);
        }
        for claim in &wanted.claims {
            let entry = shared.entry(claim);
            self.tables.frontends.insert(claim.frontend, entry);
            if let Some(set) = &categories.serving {
                self.serving.insert(claim.frontend, Arc::clone(set));
            }
        }
        self.counts[family as usize] = count;
        self.publish(&categories.cluster, cluster);
        self.publish(&categories.local, local);
        Ok(())
    }

    fn categories(&self, wanted: &Wanted<'_>, name: &ServiceName) -> Lists {
        let slices = self.snapshot.slices.get(name).into_iter().flatten().map(Arc::as_ref);
        let (family, port) = (wanted.addresses.family(), wanted.port);
        let endpoints = port_endpoints(slices, family, &port.name, port.proto);
        let found: Categories<'_> = plan_categories(&endpoints, policy_of(wanted), &self.snapshot.node);
        let targets = |list: &[PortEndpoint<'_>]| list.iter().map(|e| self.target(e)).collect();
        Lists {
            cluster: targets(&found.cluster),
            local: targets(&found.local),
            usable_anywhere: found.usable_anywhere,
            serving: serving_set(port.proto, &endpoints),
            listed: endpoints.iter().map(PortEndpoint::target).collect(),
        }
    }

    /// An address of the node itself is the host's whatever Kubernetes calls it; then the node's name decides.
    fn target(&self, endpoint: &PortEndpoint<'_>) -> Target {
        let (addr, port) = endpoint.target();
        let locality = if self.snapshot.addresses.addrs.contains(&addr) {
            Locality::HOST
        } else if is_local(endpoint.endpoint, &self.snapshot.node) {
            Locality::LOCAL
        } else {
            Locality::REMOTE
        };
        (addr, port, locality)
    }

    fn extent(&mut self, targets: &[Target]) -> Result<Extent, Full> {
        let mut set = self.backend_ids(targets.iter().map(|&(addr, port, _)| (addr, port)))?;
        set.sort_unstable();
        self.ids.extent(&set, self.now)
    }

    /// The Maglev table over these; without room for it there is none, and backends are chosen at random.
    fn maglev(&mut self, key: &ServicePortKey, targets: &[Target]) -> Extent {
        let backends: Vec<(IpAddr, u16)> = targets.iter().map(|&(addr, port, _)| (addr, port)).collect();
        let Ok(ids) = self.backend_ids(backends.iter().copied()) else { return Extent::default() };
        let places: Vec<BackendId> = plan_maglev(&backends).into_iter().map(|i| ids[i]).collect();
        match self.ids.extent(&places, self.now) {
            Ok(extent) => {
                if extent.count > 0 {
                    self.tables.extents.insert(extent, places);
                }
                extent
            }
            Err(full) => {
                let reason = format!("{full}: no Maglev table, backends are chosen at random");
                let field = format!("spec.ports[{}]", key.port);
                self.problems.push(Rejected::new(format!("Service {}", key.service), field, reason));
                self.is_full = true;
                Extent::default()
            }
        }
    }

    fn restrict(&mut self, family: IpFamily, sources: Vec<Prefix>) -> Result<(), Full> {
        let capacity = self.ids.capacity.prefixes;
        let of_family = self.tables.prefixes.iter().filter(|p| IpFamily::of(p.net.addr()) == family).count();
        if of_family + sources.len() > capacity as usize {
            return Err(Full { table: "prefix", capacity });
        }
        self.tables.prefixes.extend(sources);
        Ok(())
    }

    fn publish_address(&mut self, addr: IpAddr, flag: AddressFlags) -> Result<(), Full> {
        let capacity = self.ids.capacity.addresses;
        let count = &mut self.address_counts[IpFamily::of(addr) as usize];
        match self.tables.addresses.entry(addr) {
            Entry::Occupied(mut known) => {
                let flags = known.get_mut();
                *flags = flags.with(flag);
            }
            Entry::Vacant(_) if *count >= capacity => return Err(Full { table: "address", capacity }),
            Entry::Vacant(free) => {
                free.insert(flag);
                *count += 1;
            }
        }
        Ok(())
    }

    fn backend_ids(&mut self, targets: impl Iterator<Item = (IpAddr, u16)>) -> Result<Vec<BackendId>, Full> {
        targets.map(|(addr, port)| self.ids.backend(addr, port, self.now)).collect()
    }

    /// Puts an extent and its backends into the tables; ids were given out by `extent`.
    fn publish(&mut self, targets: &[Target], extent: Extent) {
        let mut set = BTreeSet::new();
        for &(addr, port, locality) in targets {
            let Ok(id) = self.ids.backend(addr, port, self.now) else { continue };
            set.insert(id);
            let backend = self.tables.backends.entry(id).or_insert(Backend { addr, port, locality });
            // Two slices may disagree on the node's name: whoever names it knows more.
            backend.locality = backend.locality.max(locality);
        }
        if extent.count > 0 {
            self.tables.extents.insert(extent, set.into_iter().collect());
        }
    }

    /// Plans what the kernel has for this service port, as far as all of it is still what the ids say.
    fn keep_actual(&mut self, wanted: &Wanted<'_>, key: &ServicePortKey) -> bool {
        let Some(&service) = self.ids.services().get(key) else { return false };
        let mut kept = false;
        for claim in &wanted.claims {
            let entry = self.actual.frontends.get(&claim.frontend).filter(|e| e.service == service);
            let Some(&entry) = entry else { continue };
            let extents = [entry.cluster, entry.local, entry.maglev];
            if extents.iter().all(|e| self.ids.holds(*e, self.actual)) {
                kept = true;
                for extent in extents.iter().filter(|e| e.count > 0) {
                    let set = self.actual.extents.get(extent).cloned().unwrap_or_default();
                    for id in &set {
                        let backend = self.actual.backends.get(id);
                        backend.map(|&b| *self.tables.backends.entry(*id).or_insert(b));
                    }
                    if entry.affinity != 0 {
                        self.stays.entry(service).or_default().extend(set.iter().copied());
                    }
                    self.tables.extents.insert(*extent, set);
                }
                self.counts[wanted.addresses.family() as usize] += 1;
                let flags = self.actual.addresses.get(&claim.frontend.addr);
                flags.map(|&flags| self.publish_address(claim.frontend.addr, flags));
                let list = PrefixList::sources_of(service);
                self.tables.prefixes.extend(self.actual.prefixes.iter().filter(|p| p.list == list));
                self.tables.frontends.insert(claim.frontend, entry);
            }
        }
        kept
    }
}

/// The categories of a service port, as targets.
struct Lists {
    cluster: Vec<Target>,
    local: Vec<Target>,
    usable_anywhere: bool,
    serving: Option<Arc<BTreeSet<SocketAddr>>>,
    /// Every endpoint, whatever its conditions.
    listed: Vec<(IpAddr, u16)>,
}

fn policy_of(wanted: &Wanted<'_>) -> Policy {
    Policy {
        internal_local: wanted.service.internal_local,
        external_local: wanted.service.external_local,
        externally_accessible: wanted.port.is_externally_accessible(wanted.addresses),
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
