//! Everything that answers depend on, as one value that costs nothing to clone.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_server::proto::rr::Name;

use super::reverse::Reverse;
use crate::model::name::ServiceName;
use crate::model::world::World;

/// Settings that do not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct ZoneSettings {
    /// The domain of the cluster, in lower case.
    pub domain: Name,
    /// Addresses of this name server.
    pub addresses: Vec<IpAddr>,
    /// Upstreams are asked for names outside of our zones.
    pub is_forwarding: bool,
}

#[derive(Clone, Debug)]
pub struct Zone {
    pub(super) settings: Arc<ZoneSettings>,
    pub(super) world: World,
    pub(super) reverse: Reverse,
    /// Of the SOA record: seconds since 1970 of the last change.
    pub(super) serial: u32,
}

impl Zone {
    /// A zone without Services.
    pub fn new(settings: ZoneSettings) -> Self {
        let (world, reverse) = (World::default(), Reverse::default());
        Self { settings: Arc::new(settings), world, reverse, serial: 0 }
    }

    /// Takes a world in at once.
    pub fn set_world(&mut self, world: &World, serial: u32) {
        let names = world.changed_names(&self.world);
        names.iter().for_each(|name| self.index(name, world));
        self.replace_world(world.clone(), serial);
    }

    /// Indexes one of the Services that differ between the zone's world and this one.
    pub(super) fn index(&mut self, name: &ServiceName, world: &World) {
        self.reverse.update(name, &self.world, world);
    }

    /// Ends a change: all names that differ have been indexed.
    pub(super) fn replace_world(&mut self, world: World, serial: u32) {
        (self.world, self.serial) = (world, serial);
    }

    pub(super) fn domain_labels(&self) -> usize {
        usize::from(self.settings.domain.num_labels())
    }
}
