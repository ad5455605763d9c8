//! What the people who own a Service should hear.

use super::name::ServiceName;

/// Something that does not work for a Service on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    pub service: ServiceName,
    /// A word for machines, in camel case.
    pub reason: &'static str,
    pub note: String,
}
