//! The alphabet that all sources speak.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// What a source says about one kind of object. A list replaces what was known when it is done, not before.
#[derive(Clone, Debug)]
pub enum Event<T> {
    /// A list begins; nothing that was known is forgotten yet.
    Init,
    /// An object of the list.
    InitApply(T),
    /// The list is complete: what was not in it is gone.
    InitDone,
    /// An object is new or has changed.
    Apply(T),
    /// An object is gone.
    Delete(T),
}

/// One thing a source says.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    Service(Event<Box<Service>>),
    Slice(Event<Box<EndpointSlice>>),
    Node(Event<Box<Node>>),
}

/// What belongs together (all changes of one edit): seen by the plan all at once or not at all.
pub type Batch = Vec<SourceEvent>;
