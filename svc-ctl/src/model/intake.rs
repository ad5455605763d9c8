//! Events in, model out: the only way from a source's objects into the store.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::convert::{convert_node, convert_service, convert_slice, slice_key};
use super::name::ServiceName;
use super::rejected::Rejected;
use super::store::{Converted, Objects, Store};
use crate::source::event::{Event, SourceEvent};

impl Store {
    /// Takes one thing a source said. What is refused is logged once and kept for `rejected`.
    pub fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Service(event) => {
                take(&mut self.services, event, |s| service_key(&s.metadata), |s| convert_service(s));
            }
            SourceEvent::Slice(event) => {
                take(&mut self.slices, event, |s| slice_key(&s.metadata), |s| convert_slice(s));
            }
            SourceEvent::Node(event) => {
                let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default().into();
                take(&mut self.nodes, event, |n| name(&n.metadata), |n| convert_node(n));
            }
            SourceEvent::Report(report) => {
                let before = self.rejected();
                warn_of_new(&report, &before);
                self.set_report(report);
            }
        }
    }
}

fn service_key(meta: &ObjectMeta) -> ServiceName {
    let key = slice_key(meta);
    ServiceName { namespace: key.namespace, name: key.name }
}

fn take<T, K: Ord + Clone, V: PartialEq>(
    objects: &mut Objects<K, V>,
    event: Event<T>,
    key_of: impl Fn(&T) -> K,
    convert: impl Fn(&T) -> Converted<V>,
) {
    match event {
        Event::Init => objects.reset(),
        Event::InitDone => objects.list_done(),
        Event::InitApply(object) => {
            let (key, converted) = (key_of(&object), convert(&object));
            warn_of_new(&converted.rejected, objects.rejected_of(&key));
            objects.list(&key, converted);
        }
        Event::Apply(object) => {
            let (key, converted) = (key_of(&object), convert(&object));
            warn_of_new(&converted.rejected, objects.rejected_of(&key));
            objects.apply(&key, converted);
        }
        Event::Delete(object) => objects.delete(&key_of(&object)),
    }
}

fn warn_of_new(rejected: &[Rejected], known: &[Rejected]) {
    for one in rejected.iter().filter(|r| !known.contains(r)) {
        tracing::warn!(object = %one.object, field = %one.field, reason = %one.reason, "rejected");
    }
}
