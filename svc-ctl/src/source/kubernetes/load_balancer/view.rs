//! The cluster's objects that the API server has sent since this node holds the Lease. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Service};

use super::writes::Writes;
use crate::model::convert::service_name;
use crate::model::name::ServiceName;
use crate::model::parse::parse_ip;
use crate::source::event::{Batch, Event, SourceEvent};

/// Objects of one kind by name, as the API server has sent them in this term.
pub struct Objects<K, V> {
    pub by_name: BTreeMap<K, V>,
    /// Names of a list that is not complete yet.
    listing: Option<BTreeSet<K>>,
    is_listed: bool,
}

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), listing: None, is_listed: false }
    }
}

impl<K: Clone + Ord, V: PartialEq> Objects<K, V> {
    fn begin_list(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    fn end_list(&mut self) {
        if let Some(listed) = self.listing.take() {
            self.by_name.retain(|name, _| listed.contains(name));
        }
        self.is_listed = true;
    }

    /// True: the object is new or differs.
    fn put(&mut self, name: K, object: V) -> bool {
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
        let is_new = self.by_name.get(&name) != Some(&object);
        self.by_name.insert(name, object);
        is_new
    }
}

/// The cluster's objects, as the API server has sent them in this term.
#[derive(Default)]
pub struct View {
    pub services: Objects<ServiceName, Service>,
    pub nodes: Objects<String, Vec<IpAddr>>,
    pub writes: Writes,
    /// Something has changed since the last decision. Most changes of a Node do not concern its addresses.
    pub has_changed: bool,
}

impl View {
    /// Everything is listed, and something has changed since the last decision.
    pub const fn is_due(&self) -> bool {
        self.services.is_listed && self.nodes.is_listed && self.has_changed
    }

    pub fn take(&mut self, batch: Batch) {
        for event in batch {
            self.has_changed |= match event {
                SourceEvent::Service(event) => self.take_service(event),
                SourceEvent::Node(event) => self.take_node(event),
                SourceEvent::Slice(_) => false,
            };
        }
    }

    /// Returns true if the decision may change.
    fn take_service(&mut self, event: Event<Box<Service>>) -> bool {
        match event {
            Event::Init => {
                self.services.begin_list();
                return false;
            }
            Event::InitApply(service) | Event::Apply(service) => {
                let name = service_name(&service.metadata);
                self.writes.see(&name, &service.metadata.resource_version);
                self.services.put(name, *service);
            }
            Event::InitDone => {
                self.services.end_list();
                self.writes.retain(|name| self.services.by_name.contains_key(name));
            }
            Event::Delete(service) => {
                self.services.by_name.remove(&service_name(&service.metadata));
                self.writes.remove(&service_name(&service.metadata));
            }
        }
        true
    }

    /// True: the decision may be another one now.
    fn take_node(&mut self, event: Event<Box<Node>>) -> bool {
        let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
        match event {
            Event::Init => {
                self.nodes.begin_list();
                false
            }
            Event::InitApply(node) | Event::Apply(node) => {
                let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
                let addresses = addresses.filter_map(|address| parse_ip(&address.address).ok()).collect();
                self.nodes.put(name(&node), addresses)
            }
            Event::InitDone => {
                self.nodes.end_list();
                true
            }
            Event::Delete(node) => self.nodes.by_name.remove(&name(&node)).is_some(),
        }
    }
}
