//! Health check node ports: load balancers ask there whether this node has ready endpoints of a Service (SEM-200 to
//! SEM-207). Updated by changed Services only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::Context as _;
use imbl::OrdMap;
use svc_common::abi::AddressFlags;
use tokio::sync::watch;

use crate::model::complaint::{Complaint, Kind};
use crate::model::endpoint::Endpoint;
use crate::model::name::ServiceName;
use crate::model::world::World;
use crate::plan::node_ports::{NodePortAddresses, plan_node_addresses};
use crate::plan::settings::Settings;

/// Every health check node port of this node. A clone costs nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HealthPorts {
    /// The addresses that accept NodePorts; `None`: all, including future ones (SEM-201).
    pub addresses: Option<Arc<BTreeSet<IpAddr>>>,
    pub ports: OrdMap<NonZeroU16, HealthPort>,
    /// Services whose port belongs to another Service.
    pub conflicts: OrdMap<ServiceName, PortConflict>,
}

/// Contents of a port's response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthPort {
    pub service: ServiceName,
    /// Addresses of ready endpoints on this node.
    pub local_endpoints: usize,
}

/// A conflict about a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortConflict {
    pub port: NonZeroU16,
    pub owner: ServiceName,
}

impl HealthPorts {
    pub fn complaints(&self) -> impl Iterator<Item = (&ServiceName, Complaint)> {
        self.conflicts.iter().map(|(service, PortConflict { port, owner })| {
            let reason = format!("{port} is the port of {owner} already");
            (service, complaint(service, reason))
        })
    }
}

/// A complaint about a Service's health check node port.
pub(super) fn complaint(service: &ServiceName, reason: String) -> Complaint {
    Complaint::of_service(Kind::HealthPort, service, "spec.healthCheckNodePort", reason)
}

/// Follows the world and the plan's settings until a sender is dropped.
pub async fn run(
    mut settings: watch::Receiver<Settings>,
    mut worlds: watch::Receiver<World>,
    publish: watch::Sender<HealthPorts>,
) -> anyhow::Result<()> {
    let mut map = HealthPortMap::new(settings.borrow().node_port_addresses.clone());
    loop {
        let world = worlds.borrow_and_update().clone();
        let setting = settings.borrow_and_update().node_port_addresses.clone();
        // The first world may have a hundred thousand Services.
        let update = move || {
            map.update(world);
            map.set_addresses(setting);
            map
        };
        map = tokio::task::spawn_blocking(update).await.context("health check node ports")?;
        publish.send_if_modified(|ports| {
            let is_new = *ports != map.ports;
            if is_new {
                ports.clone_from(&map.ports);
            }
            is_new
        });
        tokio::select! {
            changed = worlds.changed() => changed?,
            changed = settings.changed() => changed?,
        }
    }
}

/// The ports of a world.
pub fn health_ports(world: World, setting: NodePortAddresses) -> HealthPorts {
    let mut map = HealthPortMap::new(setting);
    map.update(world);
    map.ports
}

/// The ports, and the Services that claim them.
#[derive(Debug)]
struct HealthPortMap {
    setting: NodePortAddresses,
    world: World,
    wanted: BTreeMap<ServiceName, NonZeroU16>,
    claimants: BTreeMap<NonZeroU16, BTreeSet<ServiceName>>,
    ports: HealthPorts,
}

impl HealthPortMap {
    fn new(setting: NodePortAddresses) -> Self {
        Self {
            setting,
            world: World::default(),
            wanted: BTreeMap::new(),
            claimants: BTreeMap::new(),
            ports: HealthPorts::default(),
        }
    }

    fn set_addresses(&mut self, setting: NodePortAddresses) {
        if self.setting != setting {
            self.setting = setting;
            self.ports.addresses = self.addresses().map(Arc::new);
        }
    }

    fn update(&mut self, world: World) {
        let before = std::mem::replace(&mut self.world, world);
        let mut changed = self.world.changed_services(&before);
        if self.world.is_other_node(&before) {
            self.ports.addresses = self.addresses().map(Arc::new);
            changed.extend(self.wanted.keys().cloned());
        }
        for name in changed {
            let port = self.world.services.get(&name).and_then(|service| service.health_check_port);
            let old = match port {
                Some(port) => self.wanted.insert(name.clone(), port),
                None => self.wanted.remove(&name),
            };
            if let Some(old) = old.filter(|old| Some(*old) != port) {
                self.ports.conflicts.remove(&name);
                if let Some(claimants) = self.claimants.get_mut(&old) {
                    claimants.remove(&name);
                }
                self.settle(old);
            }
            if let Some(port) = port {
                self.claimants.entry(port).or_default().insert(name);
                self.settle(port);
            }
        }
    }

    /// The first Service by name gets the port.
    fn settle(&mut self, port: NonZeroU16) {
        let mut claimants = self.claimants.get(&port).into_iter().flatten();
        let Some(owner) = claimants.next() else {
            self.claimants.remove(&port);
            self.ports.ports.remove(&port);
            return;
        };
        self.ports.conflicts.remove(owner);
        for loser in claimants {
            self.ports.conflicts.insert(loser.clone(), PortConflict { port, owner: owner.clone() });
        }
        let answer = HealthPort { service: owner.clone(), local_endpoints: self.local_endpoints(owner) };
        self.ports.ports.insert(port, answer);
    }

    /// An address counts once, whatever its ports (SEM-203). Of two families the Service's first one is counted.
    fn local_endpoints(&self, name: &ServiceName) -> usize {
        let service = self.world.services.get(name);
        let family = service.and_then(|service| service.families.first()).map(|f| f.family());
        let slices = self.world.slices_of(name);
        let of_family = slices.filter(|slice| Some(slice.family) == family && !slice.ports.is_empty());
        let is_local_ready =
            |endpoint: &&Endpoint| endpoint.ready && endpoint.node.as_ref() == Some(&self.world.node.name);
        let endpoints = of_family.flat_map(|slice| slice.endpoints.iter().filter(is_local_ready));
        endpoints.map(|endpoint| endpoint.addr).collect::<BTreeSet<_>>().len()
    }

    fn addresses(&self) -> Option<BTreeSet<IpAddr>> {
        if self.setting.is_everywhere() {
            return None;
        }
        let planned = plan_node_addresses(&self.setting, &self.world.node, &self.world.addresses);
        let accepting = planned.into_iter().filter(|(_, flags)| flags.has(AddressFlags::NODE_PORT));
        Some(accepting.map(|(addr, _)| addr).collect())
    }
}

#[cfg(test)]
mod tests;
