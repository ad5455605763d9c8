//! Services that have names in DNS but no frontends in the tables. They are stored only if DNS is on.

use std::sync::Arc;

use imbl::OrdMap;

use super::endpoint::Slices;
use super::name::ServiceName;
use super::service::Service;

/// A Service that DNS answers for and this node does not proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NamedService {
    /// `clusterIP: None`: its name resolves to the addresses of its endpoints.
    Headless,
    /// `type: ExternalName`: its name is an alias of this name.
    ExternalName(Box<str>),
    /// A Service of another proxy: only its names are served here.
    Foreign(Box<Service>),
}

/// Objects that only DNS reads.
#[derive(Clone, Debug, Default)]
pub struct Named {
    pub services: OrdMap<ServiceName, Arc<NamedService>>,
    /// Slices with the label of headless Services.
    pub slices: OrdMap<ServiceName, Slices>,
}

impl Named {
    pub fn is_same(&self, other: &Self) -> bool {
        self.services.ptr_eq(&other.services) && self.slices.ptr_eq(&other.slices)
    }
}
