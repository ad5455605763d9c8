//! The events of all sources.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// An event about one kind of object. A list replaces the known objects when it is complete, not before.
#[derive(Clone, Debug)]
pub enum Event<T> {
    /// A list begins; the known objects stay.
    Init,
    /// An object of the list.
    InitApply(T),
    /// The list is complete: objects that were not in it are gone.
    InitDone,
    /// An object is new or has changed.
    Apply(T),
    /// An object was deleted.
    Delete(T),
}

/// One event of a source.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    Service(Event<Box<Service>>),
    Slice(Event<Box<EndpointSlice>>),
    Node(Event<Box<Node>>),
}

/// Events that belong together (all changes of one edit). The plan sees all of them or none.
pub type Batch = Vec<SourceEvent>;
