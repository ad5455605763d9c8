//! All objects of all files as the API server and its controllers would show them, and what has changed since the last
//! time, as events.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::assign::assign;
use super::document::Object;
use super::mirror::{fill_node_names, slices_of_endpoints};
use super::pods::{Zones, addresses, node_name, slices_of_pods};
use crate::model::complaint::Complaint;
use crate::model::convert::{LABEL_SERVICE_NAME, LABEL_ZONE};
use crate::source::event::{Batch, Event, SourceEvent};

type Key = (String, String);

/// What the API would show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, EndpointSlice>,
    nodes: BTreeMap<Key, Node>,
}

fn key(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl World {
    /// Plays the controllers: pods and Endpoints become slices.
    pub fn of(objects: &[&Object]) -> Self {
        let mut world = Self::default();
        let (mut pods, mut endpoints): (Vec<&Pod>, Vec<&Endpoints>) = (Vec::new(), Vec::new());
        for object in objects {
            match object {
                Object::Service(o) => drop(world.services.insert(key(&o.metadata), Service::clone(o))),
                Object::Slice(o) => drop(world.slices.insert(key(&o.metadata), EndpointSlice::clone(o))),
                Object::Node(o) => drop(world.nodes.insert(key(&o.metadata), Node::clone(o))),
                Object::Pod(o) => pods.push(o),
                Object::Endpoints(o) => endpoints.push(o),
            }
        }
        let nodes: BTreeMap<IpAddr, &str> = pods
            .iter()
            .flat_map(|p| addresses(p).zip(std::iter::repeat(node_name(p))))
            .filter_map(some)
            .collect();
        let by_hand: BTreeSet<Key> = world.slices.values().filter_map(service_of).collect();
        let mut slices = Vec::new();
        for one in endpoints.iter().filter(|e| !by_hand.contains(&key(&e.metadata))) {
            slices.extend(slices_of_endpoints(one, world.services.get(&key(&one.metadata))));
        }
        let zones: Zones<'_> = world.nodes.values().filter_map(zone_of).collect();
        for service in world.services.values() {
            slices.extend(slices_of_pods(service, &pods, &zones));
        }
        world.slices.extend(slices.into_iter().map(|s| (key(&s.metadata), s)));
        world.slices.values_mut().for_each(|slice| fill_node_names(slice, &nodes));
        world
    }

    /// Gives Services the ClusterIPs and node ports that they do not write, and says which cannot be given.
    pub fn assign(&mut self, service_cidrs: &[IpNet]) -> Vec<Complaint> {
        assign(&mut self.services, service_cidrs)
    }

    /// Everything, as a first list.
    pub fn list(&self) -> Batch {
        let mut batch = Batch::new();
        list(&self.services, &mut batch, SourceEvent::Service);
        list(&self.slices, &mut batch, SourceEvent::Slice);
        list(&self.nodes, &mut batch, SourceEvent::Node);
        batch
    }

    /// What is different from `before`.
    pub fn changes_since(&self, before: &Self) -> Batch {
        let mut batch = Batch::new();
        changes(&before.services, &self.services, &mut batch, SourceEvent::Service);
        changes(&before.slices, &self.slices, &mut batch, SourceEvent::Slice);
        changes(&before.nodes, &self.nodes, &mut batch, SourceEvent::Node);
        batch
    }
}

fn some((addr, node): (IpAddr, Option<&str>)) -> Option<(IpAddr, &str)> {
    node.map(|n| (addr, n))
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
