//! Events in, model out: the only way from a source's objects into the store.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::complaint::Origin;
use super::convert::{convert_node, convert_service, convert_slice, interned, slice_key};
use super::name::ServiceName;
use super::store::Store;
use crate::source::event::{Event, SourceEvent};

impl Store {
    /// Takes one thing that a source said.
    pub fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Service(event) => match event {
                Event::Init => self.listed_services.begin(),
                Event::InitApply(s) => {
                    let service = self.permitted(convert_service(&s));
                    self.listed_services.add(service_name(&s.metadata), service);
                }
                Event::InitDone => self.end_service_list(),
                Event::Apply(s) => {
                    let (name, converted) = (service_name(&s.metadata), self.permitted(convert_service(&s)));
                    self.set_service(&name, converted.value.map(Arc::new));
                    self.complain(Origin::Service(name), converted.refused);
                }
                Event::Delete(s) => {
                    let name = service_name(&s.metadata);
                    self.set_service(&name, None);
                    self.complain(Origin::Service(name), Vec::new());
                }
            },
            SourceEvent::Slice(event) => match event {
                Event::Init => self.listed_slices.begin(),
                Event::InitApply(s) => self.listed_slices.add(slice_key(&s.metadata), convert_slice(&s)),
                Event::InitDone => self.end_slice_list(),
                Event::Apply(s) => {
                    let (key, converted) = (slice_key(&s.metadata), convert_slice(&s));
                    self.set_slice(&key, converted.value.map(Arc::new));
                    self.complain(Origin::Slice(key), converted.refused);
                }
                Event::Delete(s) => {
                    let key = slice_key(&s.metadata);
                    self.set_slice(&key, None);
                    self.complain(Origin::Slice(key), Vec::new());
                }
            },
            SourceEvent::Node(event) => match event {
                Event::Init => self.listed_nodes.begin(),
                Event::InitApply(n) => self.listed_nodes.add(node_name(&n.metadata), convert_node(&n)),
                Event::InitDone => self.end_node_list(),
                Event::Apply(n) => {
                    let (name, converted) = (node_name(&n.metadata), convert_node(&n));
                    if name == *self.node_name() {
                        self.set_node(converted.value.map(Arc::new));
                    }
                    self.complain(Origin::Node(name), converted.refused);
                }
                Event::Delete(n) => {
                    let name = node_name(&n.metadata);
                    if name == *self.node_name() {
                        self.set_node(None);
                    }
                    self.complain(Origin::Node(name), Vec::new());
                }
            },
        }
    }
}

fn service_name(meta: &ObjectMeta) -> ServiceName {
    let key = slice_key(meta);
    ServiceName { namespace: key.namespace, name: key.name }
}

fn node_name(meta: &ObjectMeta) -> Arc<str> {
    interned(meta.name.as_deref().unwrap_or_default())
}
