//! Health check node ports: where load balancers ask whether this node has ready endpoints of a Service (SEM-200 to
//! SEM-207).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use svc_common::abi::AddressFlags;

use super::node_ports::{NodePortAddresses, plan_node_addresses};
use crate::model::name::ServiceName;
use crate::model::rejected::Rejected;
use crate::model::service::Service;
use crate::model::store::Snapshot;

/// Every health check node port of this node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HealthPorts {
    /// The addresses that accept NodePorts; nothing: all, also those to come (SEM-201).
    pub addresses: Option<BTreeSet<IpAddr>>,
    pub ports: BTreeMap<NonZeroU16, HealthPort>,
}

/// What is answered on a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthPort {
    pub service: ServiceName,
    /// Addresses of ready endpoints on this node.
    pub local_endpoints: usize,
}

/// The ports, and the Services that claim a port which another one has.
pub fn plan_health_ports(snapshot: &Snapshot, setting: &NodePortAddresses) -> (HealthPorts, Vec<Rejected>) {
    let (mut ports, mut problems) = (BTreeMap::<NonZeroU16, HealthPort>::new(), Vec::new());
    for service in snapshot.services.values() {
        let Some(port) = service.health_check_port else { continue };
        if let Some(first) = ports.get(&port) {
            let reason = format!("{port} is the port of {} already", first.service);
            problems.push(Rejected::of_service(&service.name, "spec.healthCheckNodePort", reason));
            continue;
        }
        let local_endpoints = count_local(snapshot, service);
        ports.insert(port, HealthPort { service: service.name.clone(), local_endpoints });
    }
    (HealthPorts { addresses: addresses(snapshot, setting), ports }, problems)
}

/// An address counts once, whatever its ports (SEM-203). Of two families the Service's first is counted.
fn count_local(snapshot: &Snapshot, service: &Service) -> usize {
    let family = service.families.first().map(|f| f.family());
    let slices = snapshot.slices.get(&service.name).into_iter().flatten();
    let of_family = slices.filter(|s| Some(s.family) == family && !s.ports.is_empty());
    let is_local_ready =
        |e: &&crate::model::endpoint::Endpoint| e.ready && e.node.as_ref() == Some(&snapshot.node.name);
    of_family
        .flat_map(|s| s.endpoints.iter().filter(is_local_ready).map(|e| e.addr))
        .collect::<BTreeSet<_>>()
        .len()
}

fn addresses(snapshot: &Snapshot, setting: &NodePortAddresses) -> Option<BTreeSet<IpAddr>> {
    if *setting == NodePortAddresses::All {
        return None;
    }
    let planned = plan_node_addresses(setting, &snapshot.node, &snapshot.addresses);
    let accepting = planned.into_iter().filter(|(_, flags)| flags.has(AddressFlags::NODE_PORT));
    Some(accepting.map(|(addr, _)| addr).collect())
}

#[cfg(test)]
mod tests;
