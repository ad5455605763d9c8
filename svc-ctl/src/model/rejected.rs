//! What was refused, and why: counted, logged and shown, never fatal.

use std::fmt;

use serde::Serialize;

use super::name::ServiceName;

/// A field that could not be used. The rest of its object is used where that makes sense.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Rejected {
    /// Kind, namespace and name; or file and document where there is no object yet.
    pub object: String,
    /// Path of the field, empty where the whole object is meant.
    pub field: String,
    pub reason: String,
    /// The Service whose owner should hear of it.
    #[serde(skip)]
    pub service: Option<ServiceName>,
}

impl Rejected {
    pub fn new(object: impl Into<String>, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { object: object.into(), field: field.into(), reason: reason.into(), service: None }
    }

    pub fn of_service(service: &ServiceName, field: impl Into<String>, reason: impl Into<String>) -> Self {
        let rejected = Self::new(format!("Service {service}"), field, reason);
        Self { service: Some(service.clone()), ..rejected }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}: {}", self.object, self.reason),
            field => write!(f, "{}: {field}: {}", self.object, self.reason),
        }
    }
}
