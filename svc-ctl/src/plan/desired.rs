//! (Snapshot, Ids) -> (Tables, Ids): what the kernel should hold. Pure; what cannot be had is a problem by name and
//! harms nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use svc_common::abi::{BackendId, Extent, Locality, PrefixList};

use super::claims::{Wanted, plan_claims};
use super::entry::{Masquerade, Shared};
use super::growing::Growing;
use super::ids::{Full, Ids};
use super::maglev::plan_maglev;
use super::node_ports::{NodePortAddresses, plan_node_addresses};
use super::policy::{Categories, is_local, plan_categories};
use super::prefixes::{Cidrs, LocalPods, is_node_in_ranges, listed, source_ranges};
use super::serving::{Serving, serving_set};
use super::stays::Stays;
use super::tables::{Backend, Tables};
use super::tick::Tick;
use crate::model::endpoint::{PortEndpoint, port_endpoints};
use crate::model::name::{ServiceName, ServicePortKey};
use crate::model::rejected::Rejected;
use crate::model::service::Selection;
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
    let addresses = plan_node_addresses(&settings.node_port_addresses, &snapshot.node, &snapshot.addresses);
    let (mut tables, no_room) = Growing::new(addresses, ids.capacity);
    problems.extend(no_room);
    tables.put_prefixes(listed(PrefixList::SERVICE_CIDRS, &settings.service_cidrs.0));
    tables.put_prefixes(listed(PrefixList::LOCAL_PODS, settings.local_pods.prefixes(&snapshot.node)));
    let (serving, stays) = (Serving::default(), Stays::default());
    let mut plan =
        Plan { snapshot, settings, actual, now, ids, tables, serving, stays, problems, is_full: false };
    for one in &wanted {
        plan.add(one);
    }
    let Plan { mut ids, tables, serving, stays, problems, is_full, .. } = plan;
    let tables = tables.into_tables();
    ids.retire_unused(&tables, &stays);
    Planned { tables, ids, serving, stays, problems, is_full }
}

/// The plan while it grows.
struct Plan<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    actual: &'a Tables,
    now: Tick,
    ids: Ids,
    tables: Growing,
    serving: Serving,
    stays: Stays,
    problems: Vec<Rejected>,
    is_full: bool,
}

/// A backend of a service port, before it has an id.
type Target = (IpAddr, u16, Locality);

impl Plan<'_> {
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
            let field = format!("spec.ports[{}]", key.port);
            self.problems.push(Rejected::of_service(&key.service, field, format!("{full}: {kept}")));
        }
    }

    /// First what may fail, then what is seen of it in the tables: what is rolled back is in nobody's hands yet.
    fn try_add(&mut self, wanted: &Wanted<'_>, key: &ServicePortKey) -> Result<(), Full> {
        let family = wanted.addresses.family();
        let categories = self.categories(wanted, &key.service);
        let service = self.ids.service(key, wanted.claims.iter().map(|c| &c.frontend), self.now)?;
        let cluster = self.extent(&categories.cluster)?;
        let local = self.extent(&categories.local)?;
        let is_node_in_ranges =
            is_node_in_ranges(wanted.addresses, &self.snapshot.node, &self.snapshot.addresses);
        let sources = if wanted.claims.iter().any(|claim| claim.is_restricted) {
            source_ranges(service, wanted.addresses, is_node_in_ranges)
        } else {
            Vec::new()
        };
        self.tables.room_for(family, &wanted.claims, &sources)?;
        let affinity = wanted.service.affinity.map_or(0, NonZeroU32::get);
        if affinity != 0 {
            let listed = self.backend_ids(categories.listed.iter().copied())?;
            self.stays.entry(service).or_default().extend(listed);
        }
        self.tables.put_prefixes(sources);
        self.tables.put_addresses(&wanted.claims);
        let mut shared = Shared {
            service,
            policy: wanted.policy(),
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
            self.tables.put_frontend(claim.frontend, shared.entry(claim));
            if let Some(set) = &categories.serving {
                self.serving.insert(claim.frontend, Arc::clone(set));
            }
        }
        self.publish(&categories.cluster, cluster);
        self.publish(&categories.local, local);
        Ok(())
    }

    fn categories(&self, wanted: &Wanted<'_>, name: &ServiceName) -> Lists {
        let slices = self.snapshot.slices.get(name).into_iter().flatten().map(Arc::as_ref);
        let (family, port) = (wanted.addresses.family(), wanted.port);
        let endpoints = port_endpoints(slices, family, &port.name, port.proto);
        let found: Categories<'_> = plan_categories(&endpoints, wanted.policy(), &self.snapshot.node);
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
        let places = self.ids.maglev(&ids, || plan_maglev(&backends));
        match self.ids.extent(&places, self.now) {
            Ok(extent) => {
                self.tables.put_extent(extent, places);
                extent
            }
            Err(full) => {
                let reason = format!("{full}: no Maglev table, backends are chosen at random");
                let field = format!("spec.ports[{}]", key.port);
                self.problems.push(Rejected::of_service(&key.service, field, reason));
                self.is_full = true;
                Extent::default()
            }
        }
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
            self.tables.put_backend(id, Backend { addr, port, locality });
        }
        self.tables.put_extent(extent, set.into_iter().collect());
    }

    /// Plans what the kernel has for this service port, as far as all of it is still what the ids say.
    fn keep_actual(&mut self, wanted: &Wanted<'_>, key: &ServicePortKey) -> bool {
        let Some(&service) = self.ids.services().get(key) else { return false };
        let mut kept = false;
        for claim in &wanted.claims {
            let entry = self.actual.frontends.get(&claim.frontend).filter(|e| e.service == service);
            let Some(&entry) = entry else { continue };
            let extents = [entry.cluster, entry.local, entry.maglev];
            if !extents.iter().all(|e| self.ids.holds(*e, self.actual)) {
                continue;
            }
            kept = true;
            for extent in extents.iter().filter(|e| e.count > 0) {
                let set = self.actual.extents.get(extent).cloned().unwrap_or_default();
                for id in &set {
                    if let Some(&backend) = self.actual.backends.get(id) {
                        self.tables.keep_backend(*id, backend);
                    }
                }
                if entry.affinity != 0 {
                    self.stays.entry(service).or_default().extend(set.iter().copied());
                }
                self.tables.put_extent(*extent, set);
            }
            if let Some(&flags) = self.actual.addresses.get(&claim.frontend.addr) {
                self.tables.put_address(claim.frontend.addr, flags);
            }
            let list = PrefixList::sources_of(service);
            self.tables.put_prefixes(self.actual.prefixes.iter().filter(|p| p.list == list).copied());
            self.tables.put_frontend(claim.frontend, entry);
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

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
