//! Test helper: a store filled from YAML.

use super::event::{Event, SourceEvent};
use crate::model::store::Store;

/// A store with these Services and EndpointSlices, and only the node `node1`.
pub fn store(services: &[String], slices: &[String]) -> Store {
    filled(Store::new("node1"), services, slices)
}

/// The same, including the objects that only DNS reads.
pub fn store_with_names(services: &[String], slices: &[String]) -> Store {
    filled(Store::new("node1").with_names(), services, slices)
}

fn filled(mut store: Store, services: &[String], slices: &[String]) -> Store {
    store.take(SourceEvent::Node(Event::Init));
    store.take(SourceEvent::Node(Event::InitDone));
    store.take(SourceEvent::Service(Event::Init));
    for yaml in services {
        store.take(SourceEvent::Service(Event::InitApply(Box::new(serde_yaml_ng::from_str(yaml).unwrap()))));
    }
    store.take(SourceEvent::Service(Event::InitDone));
    store.take(SourceEvent::Slice(Event::Init));
    for yaml in slices {
        store.take(SourceEvent::Slice(Event::InitApply(Box::new(serde_yaml_ng::from_str(yaml).unwrap()))));
    }
    store.take(SourceEvent::Slice(Event::InitDone));
    store
}
