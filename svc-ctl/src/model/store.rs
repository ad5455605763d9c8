//! The model's only mutable state: the latest objects of the sources.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::complaint::{Complaint, Origin};
use super::convert::{Converted, Scope};
use super::endpoint::{Slice, Slices};
use super::name::{ServiceName, SliceKey};
use super::named::NamedService;
use super::node::{NodeAddresses, NodeInfo};
use super::service::Service;
use super::world::World;

/// A list that is being received. It replaces the known objects when it is complete, so that a re-list is atomic
/// (SEM-271).
#[derive(Debug)]
pub struct Listing<K, V> {
    incoming: BTreeMap<K, Arc<V>>,
    complaints: BTreeMap<K, Vec<Complaint>>,
    is_synced: bool,
}

impl<K, V> Default for Listing<K, V> {
    fn default() -> Self {
        Self { incoming: BTreeMap::new(), complaints: BTreeMap::new(), is_synced: false }
    }
}

impl<K: Ord + Clone, V> Listing<K, V> {
    /// A list begins.
    pub fn begin(&mut self) {
        self.incoming.clear();
        self.complaints.clear();
    }

    /// An object of the list.
    pub fn add(&mut self, key: K, object: Converted<V>) {
        if !object.refused.is_empty() {
            self.complaints.insert(key.clone(), object.refused);
        }
        if let Some(value) = object.value {
            self.incoming.insert(key, Arc::new(value));
        }
    }
}

/// A slice under its own key.
#[derive(Debug)]
struct Keyed(Arc<Slice>);

impl Keyed {
    fn key(&self) -> &SliceKey {
        &self.0.key
    }
}

impl Borrow<SliceKey> for Keyed {
    fn borrow(&self) -> &SliceKey {
        self.key()
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Keyed {}

impl PartialOrd for Keyed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Keyed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

#[derive(Debug, Default)]
pub struct Store {
    node_name: Arc<str>,
    scope: Scope,
    /// `spec.externalIPs` of Services are left out.
    refuses_external_ips: bool,
    world: World,
    slices: BTreeSet<Keyed>,
    pub(super) listed_services: Listing<ServiceName, Service>,
    pub(super) listed_named: Listing<ServiceName, NamedService>,
    pub(super) listed_slices: Listing<SliceKey, Slice>,
    pub(super) listed_nodes: Listing<Arc<str>, NodeInfo>,
    /// Origins that complain now.
    complaining: BTreeSet<Origin>,
    /// Complaints of origins since the last [`Store::take_complaints`].
    complaints: Vec<(Origin, Vec<Complaint>)>,
}

impl Store {
    pub fn new(node_name: &str) -> Self {
        let world = World { node: Arc::new(NodeInfo::named(node_name)), ..World::default() };
        Self { node_name: node_name.into(), world, ..Self::default() }
    }

    /// Also keeps the objects that only DNS reads.
    #[must_use]
    pub fn with_names(self) -> Self {
        Self { scope: Scope::TablesAndNames, ..self }
    }

    pub(super) const fn scope(&self) -> Scope {
        self.scope
    }

    /// With the gate `AllowServiceExternalIPs` off, Services are served without their external IPs.
    pub fn serving_external_ips(self, is_allowed: bool) -> Self {
        Self { refuses_external_ips: !is_allowed, ..self }
    }

    /// The part of a Service that may be served.
    pub(super) fn permitted(&self, mut service: Converted<Service>) -> Converted<Service> {
        if self.refuses_external_ips {
            let families = service.value.iter_mut().flat_map(|service| &mut service.families);
            families.for_each(|family| family.external_ips.clear());
        }
        service
    }

    pub const fn node_name(&self) -> &Arc<str> {
        &self.node_name
    }

    /// The objects of all sources now. They may be planned once every source is [synced](Self::is_synced).
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Every source has listed its objects. Only now may entries be pruned (SEM-260).
    pub const fn is_synced(&self) -> bool {
        self.listed_services.is_synced && self.listed_slices.is_synced && self.listed_nodes.is_synced
    }

    pub fn set_addresses(&mut self, addresses: NodeAddresses) {
        if *self.world.addresses != addresses {
            self.world.addresses = Arc::new(addresses);
        }
    }

    /// New complaints by origin. An empty list ends the complaints of its origin.
    pub fn take_complaints(&mut self) -> Vec<(Origin, Vec<Complaint>)> {
        std::mem::take(&mut self.complaints)
    }

    pub(super) fn complain(&mut self, origin: Origin, complaints: Vec<Complaint>) {
        let is_news = if complaints.is_empty() {
            self.complaining.remove(&origin)
        } else {
            self.complaining.insert(origin.clone());
            true
        };
        if is_news {
            self.complaints.push((origin, complaints));
        }
    }

    /// Replaces the complaints of all objects of a kind.
    fn complain_of_list<K>(
        &mut self,
        list: BTreeMap<K, Vec<Complaint>>,
        is_kind: fn(&Origin) -> bool,
        origin: impl Fn(K) -> Origin,
    ) {
        let now: BTreeMap<Origin, Vec<Complaint>> = list.into_iter().map(|(k, c)| (origin(k), c)).collect();
        let over: Vec<Origin> =
            self.complaining.iter().filter(|o| is_kind(o) && !now.contains_key(o)).cloned().collect();
        over.into_iter().for_each(|origin| self.complain(origin, Vec::new()));
        now.into_iter().for_each(|(origin, complaints)| self.complain(origin, complaints));
    }

    pub(super) fn end_service_list(&mut self) {
        let list = std::mem::take(&mut self.listed_services);
        let gone: Vec<ServiceName> =
            self.world.services.keys().filter(|k| !list.incoming.contains_key(k)).cloned().collect();
        gone.iter().for_each(|name| self.set_service(name, None));
        list.incoming.into_iter().for_each(|(name, service)| self.set_service(&name, Some(service)));
        self.complain_of_list(list.complaints, |o| matches!(o, Origin::Service(_)), Origin::Service);
        self.listed_services.is_synced = true;
    }

    pub(super) fn set_service(&mut self, name: &ServiceName, service: Option<Arc<Service>>) {
        let before = self.world.services.get(name);
        match service {
            Some(service) if before != Some(&service) => {
                self.world.services.insert(name.clone(), service);
            }
            None if before.is_some() => {
                self.world.services.remove(name);
            }
            _ => {}
        }
    }

    pub(super) fn end_named_list(&mut self) {
        let list = std::mem::take(&mut self.listed_named);
        let gone: Vec<ServiceName> =
            self.world.named.services.keys().filter(|k| !list.incoming.contains_key(k)).cloned().collect();
        gone.iter().for_each(|name| self.set_named(name, None));
        list.incoming.into_iter().for_each(|(name, service)| self.set_named(&name, Some(service)));
    }

    pub(super) fn set_named(&mut self, name: &ServiceName, service: Option<Arc<NamedService>>) {
        let before = self.world.named.services.get(name);
        match service {
            Some(service) if before != Some(&service) => {
                self.world.named.services.insert(name.clone(), service);
            }
            None if before.is_some() => {
                self.world.named.services.remove(name);
            }
            _ => {}
        }
    }

    pub(super) fn end_slice_list(&mut self) {
        let list = std::mem::take(&mut self.listed_slices);
        let gone: Vec<SliceKey> =
            self.slices.iter().map(Keyed::key).filter(|k| !list.incoming.contains_key(k)).cloned().collect();
        gone.iter().for_each(|key| self.set_slice(key, None));
        list.incoming.into_iter().for_each(|(key, slice)| self.set_slice(&key, Some(slice)));
        // A list comes in the order of its keys, which leaves the nodes of the tree half empty.
        self.slices = std::mem::take(&mut self.slices).into_iter().collect();
        self.complain_of_list(list.complaints, |o| matches!(o, Origin::Slice(_)), Origin::Slice);
        self.listed_slices.is_synced = true;
    }

    pub(super) fn set_slice(&mut self, key: &SliceKey, slice: Option<Arc<Slice>>) {
        let before = match &slice {
            Some(slice) => self.slices.replace(Keyed(Arc::clone(slice))),
            None => self.slices.take(key),
        };
        let before = before.map(|Keyed(slice)| slice);
        if before == slice {
            return;
        }
        let place = |slice: &Slice| (slice.service.clone(), slice.is_headless);
        if let Some(before) = before.filter(|b| slice.as_ref().is_none_or(|s| place(s) != place(b))) {
            self.replace_in_service(&before, None);
        }
        if let Some(slice) = slice {
            self.replace_in_service(&slice, Some(&slice));
        }
    }

    /// Puts a slice among those of its Service, or takes it out.
    fn replace_in_service(
        &mut self,
        Slice { service, key, is_headless, .. }: &Slice,
        slice: Option<&Arc<Slice>>,
    ) {
        let slices = if *is_headless { &mut self.world.named.slices } else { &mut self.world.slices };
        let known = slices.get(service);
        let others = known.into_iter().flat_map(|slices| slices.iter()).filter(|s| s.key != *key);
        let mut all: Vec<Arc<Slice>> = others.chain(slice).cloned().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        match all.is_empty() {
            true => slices.remove(service),
            false => slices.insert(service.clone(), Slices::from(all)),
        };
    }

    pub(super) fn end_node_list(&mut self) {
        let mut list = std::mem::take(&mut self.listed_nodes);
        let own = list.incoming.remove(&self.node_name);
        self.set_node(own);
        self.complain_of_list(list.complaints, |o| matches!(o, Origin::Node(_)), Origin::Node);
        self.listed_nodes.is_synced = true;
    }

    /// A Node object that is gone leaves its addresses, pod CIDRs and zone in force until it is made anew (SEM-075). Load
    /// balancers are sent elsewhere (SEM-211).
    pub(super) fn set_node(&mut self, node: Option<Arc<NodeInfo>>) {
        let node =
            node.unwrap_or_else(|| Arc::new(NodeInfo { is_eligible: false, ..(*self.world.node).clone() }));
        if self.world.node != node {
            self.world.node = node;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::{Hostnames, PodNames, Slice, Triggered};
    use crate::model::name::IpFamily;
    use crate::source::event::{Event, SourceEvent};

    fn slice(name: &str, service: &str) -> Arc<Slice> {
        Arc::new(Slice {
            key: SliceKey::new("default", name),
            service: ServiceName::new("default", service),
            family: IpFamily::V4,
            ports: Vec::new(),
            endpoints: Vec::new(),
            hostnames: Hostnames::default(),
            pods: PodNames::default(),
            is_headless: false,
            triggered: Triggered::default(),
        })
    }

    #[test]
    fn external_ips_are_left_out_where_the_gate_is_off() {
        let object = serde_json::json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "clusterIP": "10.96.0.1",
                "clusterIPs": ["10.96.0.1"],
                "externalIPs": ["192.0.2.1"],
                "ports": [{"port": 80}],
            },
        });
        let object: k8s_openapi::api::core::v1::Service = serde_json::from_value(object).unwrap();
        for (is_allowed, count) in [(true, 1), (false, 0)] {
            let mut store = Store::new("node1").serving_external_ips(is_allowed);
            store.take(SourceEvent::Service(Event::Apply(Box::new(object.clone()))));
            let service = store.world().services.values().next().unwrap();
            assert_eq!(service.families[0].external_ips.len(), count);
        }
    }

    #[test]
    fn nothing_is_synced_before_every_list_is_complete() {
        let mut store = Store::new("node1");
        store.end_service_list();
        store.end_slice_list();
        assert!(!store.is_synced());
        store.end_node_list();
        assert!(store.is_synced());
    }

    #[test]
    fn refusals_live_as_long_as_their_object() {
        let mut store = Store::new("node1");
        let origin = || Origin::Service(ServiceName::new("default", "web"));
        let bad = vec![Complaint::refused("Service default/web", "spec", "bad")];
        store.complain(origin(), bad.clone());
        assert_eq!(store.take_complaints(), [(origin(), bad)]);
        store.complain(origin(), Vec::new());
        assert_eq!(store.take_complaints(), [(origin(), Vec::new())]);
        store.complain(origin(), Vec::new());
        assert!(store.take_complaints().is_empty());
    }

    #[test]
    fn sem_055_a_change_taken_back_is_no_change() {
        let mut store = Store::new("node1");
        store.set_slice(&SliceKey::new("default", "s"), Some(slice("s", "a")));
        let before = store.world().clone();
        store.set_slice(&SliceKey::new("default", "s"), None);
        store.set_slice(&SliceKey::new("default", "t"), Some(slice("t", "b")));
        assert_eq!(store.world().changed_services(&before).len(), 2);
        store.set_slice(&SliceKey::new("default", "t"), None);
        store.set_slice(&SliceKey::new("default", "s"), Some(slice("s", "a")));
        assert!(store.world().changed_services(&before).is_empty());
    }

    #[test]
    fn a_slice_that_moves_to_another_service_changes_both() {
        let mut store = Store::new("node1");
        let key = SliceKey::new("default", "s");
        store.set_slice(&key, Some(slice("s", "a")));
        let before = store.world().clone();
        store.set_slice(&key, Some(slice("s", "b")));
        let changed: Vec<String> =
            store.world().changed_services(&before).iter().map(ToString::to_string).collect();
        assert_eq!(changed, ["default/a", "default/b"]);
        assert_eq!(store.world().slices.len(), 1);
    }

    #[test]
    fn sem_271_a_relist_replaces_the_known_objects_only_when_it_is_complete() {
        let mut store = Store::new("node1");
        store.set_slice(&SliceKey::new("default", "a"), Some(slice("a", "a")));
        store.set_slice(&SliceKey::new("default", "b"), Some(slice("b", "b")));
        store.listed_slices.begin();
        store.listed_slices.incoming.insert(SliceKey::new("default", "a"), slice("a", "a"));
        assert_eq!(store.world().slices.len(), 2);
        store.end_slice_list();
        assert_eq!(store.world().slices.len(), 1);
    }

    #[test]
    fn a_node_that_is_deleted_leaves_all_but_its_eligibility_in_force_sem_075_sem_211() {
        let mut store = Store::new("node1");
        let known = NodeInfo {
            zone: Some("a".into()),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            is_eligible: true,
            ..NodeInfo::named("node1")
        };
        store.set_node(Some(Arc::new(known.clone())));
        store.set_node(None);
        assert_eq!(*store.world().node, NodeInfo { is_eligible: false, ..known });
    }
}
