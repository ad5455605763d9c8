//! Services that have names in DNS and no frontends in the tables. They are kept only where DNS is on.

use std::sync::Arc;

use imbl::OrdMap;

use super::name::ServiceName;
use super::service::Service;
use super::world::Slices;

/// A Service that this node does not proxy and DNS answers for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NamedService {
    /// `clusterIP: None`: its name has the addresses of its endpoints.
    Headless,
    /// `type: ExternalName`: its name is an alias of this one.
    ExternalName(Box<str>),
    /// Another proxy's: only its names are ours.
    Foreign(Box<Service>),
}

/// What DNS reads and the tables do not.
#[derive(Clone, Debug, Default)]
pub struct Named {
    pub services: OrdMap<ServiceName, Arc<NamedService>>,
    /// Slices that are labelled as a headless Service's.
    pub slices: OrdMap<ServiceName, Slices>,
}

impl Named {
    pub fn is_same(&self, other: &Self) -> bool {
        self.services.ptr_eq(&other.services) && self.slices.ptr_eq(&other.slices)
    }
}
