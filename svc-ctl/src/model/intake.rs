//! Applies a source's events to the store: the only way from Kubernetes objects into the model.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::complaint::Origin;
use super::convert::{
    Converted, convert_named_service, convert_node, convert_service, convert_slice, interned, service_name,
    slice_key,
};
use super::named::NamedService;
use super::service::Service;
use super::store::Store;
use crate::source::event::{Event, SourceEvent};

impl Store {
    /// Applies one event.
    pub fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Service(event) => match event {
                Event::Init => {
                    self.listed_services.begin();
                    self.listed_named.begin();
                }
                Event::InitApply(s) => {
                    let name = service_name(&s.metadata);
                    let (mut service, mut named) = self.convert(&s);
                    service.refused.append(&mut named.refused);
                    self.listed_services.add(name.clone(), service);
                    self.listed_named.add(name, named);
                }
                Event::InitDone => {
                    self.end_service_list();
                    self.end_named_list();
                }
                Event::Apply(s) => {
                    let name = service_name(&s.metadata);
                    let (mut service, named) = self.convert(&s);
                    self.set_service(&name, service.value.map(Arc::new));
                    self.set_named(&name, named.value.map(Arc::new));
                    service.refused.extend(named.refused);
                    self.complain(Origin::Service(name), service.refused);
                }
                Event::Delete(s) => {
                    let name = service_name(&s.metadata);
                    self.set_service(&name, None);
                    self.set_named(&name, None);
                    self.complain(Origin::Service(name), Vec::new());
                }
            },
            SourceEvent::Slice(event) => match event {
                Event::Init => self.listed_slices.begin(),
                Event::InitApply(s) => {
                    self.listed_slices.add(slice_key(&s.metadata), convert_slice(&s, self.scope()))
                }
                Event::InitDone => self.end_slice_list(),
                Event::Apply(s) => {
                    let (key, converted) = (slice_key(&s.metadata), convert_slice(&s, self.scope()));
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

    /// At most one of the two has a value.
    fn convert(&self, service: &core::Service) -> (Converted<Service>, Converted<NamedService>) {
        (self.permitted(convert_service(service)), convert_named_service(service, self.scope()))
    }
}

fn node_name(meta: &ObjectMeta) -> Arc<str> {
    interned(meta.name.as_deref().unwrap_or_default())
}
