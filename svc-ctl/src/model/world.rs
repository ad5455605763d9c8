//! The state that the sources want, as one value with many readers. A clone costs nothing, and comparing two versions
//! takes time in proportion to their differences.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::endpoint::{Slice, Slices};
use super::name::ServiceName;
use super::named::Named;
use super::node::{NodeAddresses, NodeInfo};
use super::service::Service;

/// Services, their endpoints, and this node.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub services: OrdMap<ServiceName, Arc<Service>>,
    pub slices: OrdMap<ServiceName, Slices>,
    pub node: Arc<NodeInfo>,
    pub addresses: Arc<NodeAddresses>,
    /// Objects that only DNS reads; empty if DNS is off.
    pub named: Named,
}

impl World {
    /// The slices of a Service.
    pub fn slices_of(&self, service: &ServiceName) -> impl Iterator<Item = &Slice> {
        self.slices.get(service).into_iter().flat_map(|slices| slices.iter()).map(Arc::as_ref)
    }

    /// Services that differ from `before` themselves or in their slices, including deleted ones.
    pub fn changed_services(&self, before: &Self) -> BTreeSet<ServiceName> {
        let services = before.services.diff(&self.services).map(|item| changed_key(&item));
        let slices = before.slices.diff(&self.slices).map(|item| changed_key(&item));
        services.chain(slices).cloned().collect()
    }

    /// Like [`Self::changed_services`], including Services of which only the names differ.
    pub fn changed_names(&self, before: &Self) -> BTreeSet<ServiceName> {
        let mut changed = self.changed_services(before);
        let services = before.named.services.diff(&self.named.services).map(|item| changed_key(&item));
        let slices = before.named.slices.diff(&self.named.slices).map(|item| changed_key(&item));
        changed.extend(services.chain(slices).cloned());
        changed
    }

    /// The slices of a Service, also of a headless one.
    pub fn named_slices_of(&self, service: &ServiceName) -> impl Iterator<Item = &Slice> {
        let slices = [self.slices.get(service), self.named.slices.get(service)];
        slices.into_iter().flatten().flat_map(|slices| slices.iter()).map(Arc::as_ref)
    }

    /// The node's object or addresses differ. Any Service may depend on them.
    pub fn is_other_node(&self, before: &Self) -> bool {
        self.node != before.node || self.addresses != before.addresses
    }
}

fn changed_key<'a, V>(item: &DiffItem<'a, 'a, ServiceName, V>) -> &'a ServiceName {
    match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key,
    }
}
