//! From addresses to Services: the one index of a zone. It follows the Services that change.

use std::collections::BTreeSet;
use std::net::IpAddr;

use imbl::OrdSet;

use crate::model::name::ServiceName;
use crate::model::named::NamedService;
use crate::model::service::Service;
use crate::model::world::World;

/// The relation of an address to a Service. ClusterIPs are looked up first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum AddressKind {
    ClusterIp,
    Endpoint,
}

type Entry = (IpAddr, AddressKind, ServiceName);

#[derive(Clone, Debug, Default)]
pub struct Reverse(OrdSet<Entry>);

impl Reverse {
    /// A Service has changed since `before`.
    pub fn update(&mut self, name: &ServiceName, before: &World, now: &World) {
        let (before, now) = (entries(name, before), entries(name, now));
        for entry in before.difference(&now) {
            self.0.remove(entry);
        }
        for entry in now.difference(&before) {
            self.0.insert(entry.clone());
        }
    }

    /// The Services that have an address, in the order of their names.
    pub fn owners(&self, addr: IpAddr, role: AddressKind) -> impl Iterator<Item = &ServiceName> {
        let first: Entry = (addr, role, ServiceName::new("", ""));
        let owned = self.0.range(first..).take_while(move |(a, r, _)| (*a, *r) == (addr, role));
        owned.map(|(_, _, name)| name)
    }
}

/// All addresses of a Service in a world, with their relations.
fn entries(name: &ServiceName, world: &World) -> BTreeSet<Entry> {
    let foreign = match world.named.services.get(name).map(|named| &**named) {
        Some(NamedService::Foreign(service)) => Some(&**service),
        Some(NamedService::Headless | NamedService::ExternalName(_)) | None => None,
    };
    let services = world.services.get(name).map(|service| &**service).into_iter().chain(foreign);
    let cluster_ips = services.flat_map(|service: &Service| &service.families).map(|f| f.cluster_ip);
    let endpoints = world.named_slices_of(name).flat_map(|slice| &slice.endpoints).map(|e| e.addr);
    let cluster_ips = cluster_ips.map(|addr| (addr, AddressKind::ClusterIp, name.clone()));
    cluster_ips.chain(endpoints.map(|addr| (addr, AddressKind::Endpoint, name.clone()))).collect()
}
