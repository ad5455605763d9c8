//! The model's only mutable state: what the sources said last, and whether it differs from the last snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::endpoint::Slice;
use super::name::{ServiceName, SliceKey};
use super::node::{NodeAddresses, NodeInfo};
use super::rejected::Rejected;
use super::service::Service;
use super::tracker::Tracker;

/// An object after conversion: what of it can be used (nothing if it is not for us), and what was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Converted<T> {
    pub value: Option<T>,
    pub rejected: Vec<Rejected>,
}

/// All objects of one kind.
#[derive(Debug)]
pub struct Objects<K, V> {
    values: Tracker<K, V>,
    rejected: Tracker<K, Vec<Rejected>>,
}

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self { values: Tracker::default(), rejected: Tracker::default() }
    }
}

impl<K: Ord + Clone, V: PartialEq> Objects<K, V> {
    /// A list begins.
    pub fn reset(&mut self) {
        self.values.begin_list();
        self.rejected.begin_list();
    }

    /// An object of the list.
    pub fn list(&mut self, key: &K, object: Converted<V>) {
        if !object.rejected.is_empty() {
            self.rejected.list(key.clone(), object.rejected);
        }
        if let Some(value) = object.value {
            self.values.list(key.clone(), value);
        }
    }

    /// The list is complete.
    pub fn list_done(&mut self) {
        self.values.end_list();
        self.rejected.end_list();
    }

    pub fn apply(&mut self, key: &K, object: Converted<V>) {
        self.rejected.set(key, Some(object.rejected).filter(|r| !r.is_empty()));
        self.values.set(key, object.value);
    }

    pub fn delete(&mut self, key: &K) {
        self.rejected.set(key, None);
        self.values.set(key, None);
    }

    /// What was refused of an object.
    pub fn rejected_of(&self, key: &K) -> &[Rejected] {
        self.rejected.current().get(key).map_or(&[], |r| r.as_slice())
    }
}

/// Everything the plan needs to know, frozen.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// All slices of each Service: they are only ever seen together (SEM-056).
    pub slices: BTreeMap<ServiceName, Vec<Arc<Slice>>>,
    pub node: NodeInfo,
    pub addresses: NodeAddresses,
}

#[derive(Debug)]
pub struct Store {
    node_name: Arc<str>,
    pub services: Objects<ServiceName, Service>,
    pub slices: Objects<SliceKey, Slice>,
    pub nodes: Objects<Arc<str>, NodeInfo>,
    addresses: Tracker<(), NodeAddresses>,
    report: Vec<Rejected>,
}

impl Store {
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            services: Objects::default(),
            slices: Objects::default(),
            nodes: Objects::default(),
            addresses: Tracker::default(),
            report: Vec::new(),
        }
    }

    pub const fn node_name(&self) -> &Arc<str> {
        &self.node_name
    }

    pub fn set_addresses(&mut self, addresses: NodeAddresses) {
        self.addresses.set(&(), Some(addresses));
    }

    /// What a source could not read at all.
    pub fn set_report(&mut self, report: Vec<Rejected>) {
        self.report = report;
    }

    /// Every source has said all it knows: only now may anything be pruned (SEM-260).
    pub const fn is_synced(&self) -> bool {
        self.services.values.is_synced() && self.slices.values.is_synced() && self.nodes.values.is_synced()
    }

    /// Something differs from the last snapshot.
    pub fn is_dirty(&self) -> bool {
        self.services.values.is_dirty()
            || self.slices.values.is_dirty()
            || self.nodes.values.is_dirty()
            || self.addresses.is_dirty()
    }

    /// The state now, once it is complete; from here on only later changes count as dirty.
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        if !self.is_synced() {
            return None;
        }
        self.services.values.clear_dirty();
        self.slices.values.clear_dirty();
        self.nodes.values.clear_dirty();
        self.addresses.clear_dirty();
        let mut slices: BTreeMap<ServiceName, Vec<Arc<Slice>>> = BTreeMap::new();
        for slice in self.slices.values.current().values() {
            slices.entry(slice.service.clone()).or_default().push(Arc::clone(slice));
        }
        let node = self.nodes.values.current().get(&self.node_name);
        let addresses = self.addresses.current().get(&());
        Some(Snapshot {
            services: self.services.values.current().clone(),
            slices,
            node: node.map_or_else(|| NodeInfo::named(&self.node_name), |n| NodeInfo::clone(n)),
            addresses: addresses.map_or_else(NodeAddresses::default, |a| NodeAddresses::clone(a)),
        })
    }

    /// Everything refused at the moment, in a stable order.
    pub fn rejected(&self) -> Vec<Rejected> {
        let lists = (self.services.rejected.current().values())
            .chain(self.slices.rejected.current().values())
            .chain(self.nodes.rejected.current().values());
        self.report.iter().chain(lists.flat_map(|list| list.iter())).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing<V>() -> Converted<V> {
        Converted { value: None, rejected: Vec::new() }
    }

    #[test]
    fn there_is_no_snapshot_before_every_list_is_complete() {
        let mut store = Store::new("node1");
        store.services.reset();
        store.services.list_done();
        store.slices.reset();
        store.slices.list_done();
        assert!(store.snapshot().is_none());
        store.nodes.reset();
        store.nodes.list_done();
        assert!(store.snapshot().is_some());
    }

    #[test]
    fn rejections_live_as_long_as_their_object() {
        let mut store = Store::new("node1");
        let key = ServiceName::new("default", "web");
        let bad =
            Converted { value: None, rejected: vec![Rejected::new("Service default/web", "spec", "bad")] };
        store.services.apply(&key, bad);
        assert_eq!(store.rejected().len(), 1);
        store.services.apply(&key, nothing());
        assert!(store.rejected().is_empty());
        assert!(!store.is_dirty());
    }
}
