//! All objects of all files as the API server and its controllers would show them, and the changes since the last time,
//! as events.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::assign::assign;
use super::document::Object;
use super::given::Given;
use super::health::Health;
use super::load_balancers;
use super::mirror::{complete, slices_of_endpoints};
use super::pods::{Zones, addresses, slices_of_pods};
use super::rules::conflicts;
use crate::lb::selector::Namespaces;
use crate::lb::settings::LoadBalancerSettings;
use crate::lb::usage::PoolsUse;
use crate::model::complaint::Complaint;
use crate::model::convert::{LABEL_SERVICE_NAME, LABEL_ZONE};
use crate::source::event::{Batch, Event, SourceEvent};

type Key = (String, String);

/// The label that every Namespace has: its name.
const LABEL_NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The objects that an API server would show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, EndpointSlice>,
    nodes: BTreeMap<Key, Node>,
    namespaces: Namespaces,
}

fn key(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl World {
    /// The objects as they are written.
    pub fn of(objects: &[&Object]) -> Self {
        Self::with_health(objects, &Health::default())
    }

    /// Plays the controllers: pods and Endpoints become slices, as far as their health allows.
    pub fn with_health(objects: &[&Object], health: &Health) -> Self {
        let mut world = Self::default();
        let (mut pods, mut endpoints): (Vec<&Pod>, Vec<&Endpoints>) = (Vec::new(), Vec::new());
        for object in objects {
            match object {
                Object::Service(o) => drop(world.services.insert(key(&o.metadata), Service::clone(o))),
                Object::Slice(o) => drop(world.slices.insert(key(&o.metadata), EndpointSlice::clone(o))),
                Object::Node(o) => drop(world.nodes.insert(key(&o.metadata), Node::clone(o))),
                Object::Namespace(o) => drop(world.namespaces.insert(
                    o.metadata.name.clone().unwrap_or_default(),
                    o.metadata.labels.clone().unwrap_or_default(),
                )),
                Object::Pod(o) => pods.push(o),
                Object::Endpoints(o) => endpoints.push(o),
            }
        }
        let by_address: BTreeMap<IpAddr, &Pod> =
            pods.iter().flat_map(|pod| addresses(pod).zip(std::iter::repeat(*pod))).collect();
        let by_hand: BTreeSet<Key> = world.slices.values().filter_map(service_of).collect();
        let mut written = Vec::new();
        for one in endpoints.iter().filter(|e| !by_hand.contains(&key(&e.metadata))) {
            written.extend(slices_of_endpoints(one, world.services.get(&key(&one.metadata))));
        }
        world.slices.extend(written.into_iter().map(|s| (key(&s.metadata), s)));
        world.slices.values_mut().for_each(|slice| complete(slice, &by_address, health));
        let zones: Zones<'_> = world.nodes.values().filter_map(zone_of).collect();
        for service in world.services.values() {
            let slices = slices_of_pods(service, &pods, &zones, health);
            world.slices.extend(slices.into_iter().map(|s| (key(&s.metadata), s)));
        }
        world
    }

    /// Assigns the ClusterIPs and node ports that are missing in manifests, and reports those that cannot be assigned.
    /// `given` has the earlier values, and afterwards the new ones.
    pub fn assign(&mut self, service_cidrs: &[IpNet], given: &mut Given) -> Vec<Complaint> {
        assign(&mut self.services, service_cidrs, given)
    }

    /// Gives Services of type LoadBalancer the addresses that they do not write; after [`Self::assign`].
    pub fn assign_load_balancers(
        &mut self,
        service_cidrs: &[IpNet],
        settings: &LoadBalancerSettings,
        given: &mut Given,
    ) -> (Vec<Complaint>, PoolsUse) {
        let given = &mut given.load_balancer_ips;
        let pools = settings.pools.clone().in_namespaces(&self.labelled_namespaces());
        let settings = LoadBalancerSettings { pools, ..settings.clone() };
        load_balancers::assign(&mut self.services, self.nodes.values(), service_cidrs, &settings, given)
    }

    /// The Namespaces of the manifests and of Services. An API server gives each a label with its name.
    fn labelled_namespaces(&self) -> Namespaces {
        let mut all = self.namespaces.clone();
        for (namespace, _) in self.services.keys() {
            all.entry(namespace.clone()).or_default();
        }
        for (name, labels) in &mut all {
            labels.insert(LABEL_NAMESPACE.to_owned(), name.clone());
        }
        all
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The slices of a Service.
    pub fn slices_of(&self, service: &ObjectMeta) -> impl Iterator<Item = &EndpointSlice> {
        let service = key(service);
        self.slices.values().filter(move |slice| service_of(slice).as_ref() == Some(&service))
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(&(String::new(), name.to_owned()))
    }

    /// Two Services that want the same.
    pub fn conflicts(&self) -> Vec<Complaint> {
        conflicts(self.services.values())
    }

    /// Everything, as a first list.
    pub fn list(&self) -> Batch {
        let mut batch = Batch::new();
        list(&self.services, &mut batch, SourceEvent::Service);
        list(&self.slices, &mut batch, SourceEvent::Slice);
        list(&self.nodes, &mut batch, SourceEvent::Node);
        batch
    }

    /// The differences from `before`.
    pub fn changes_since(&self, before: &Self) -> Batch {
        let mut batch = Batch::new();
        changes(&before.services, &self.services, &mut batch, SourceEvent::Service);
        changes(&before.slices, &self.slices, &mut batch, SourceEvent::Slice);
        changes(&before.nodes, &self.nodes, &mut batch, SourceEvent::Node);
        batch
    }
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let service = slice.metadata.labels.as_ref()?.get(LABEL_SERVICE_NAME)?;
    Some((slice.metadata.namespace.clone().unwrap_or_default(), service.clone()))
}

fn zone_of(node: &Node) -> Option<(&str, &str)> {
    let zone = node.metadata.labels.as_ref()?.get(LABEL_ZONE)?;
    Some((node.metadata.name.as_deref()?, zone.as_str()))
}

fn list<T: Clone>(
    objects: &BTreeMap<Key, T>,
    batch: &mut Batch,
    wrap: impl Fn(Event<Box<T>>) -> SourceEvent,
) {
    batch.push(wrap(Event::Init));
    batch.extend(objects.values().map(|o| wrap(Event::InitApply(Box::new(o.clone())))));
    batch.push(wrap(Event::InitDone));
}

fn changes<T: Clone + PartialEq>(
    before: &BTreeMap<Key, T>,
    now: &BTreeMap<Key, T>,
    batch: &mut Batch,
    wrap: impl Fn(Event<Box<T>>) -> SourceEvent,
) {
    let gone = before.iter().filter(|(key, _)| !now.contains_key(key));
    batch.extend(gone.map(|(_, o)| wrap(Event::Delete(Box::new(o.clone())))));
    let changed = now.iter().filter(|(key, o)| before.get(key) != Some(o));
    batch.extend(changed.map(|(_, o)| wrap(Event::Apply(Box::new(o.clone())))));
}
