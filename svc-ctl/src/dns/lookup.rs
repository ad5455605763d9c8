//! Finds the Services and endpoints behind a name, without records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use imbl::OrdMap;
use svc_common::addr::Proto;

use super::subject::{NameRef, PortRef, Subject};
use super::zone::Zone;
use crate::model::name::{ServiceName, proto_label};
use crate::model::named::NamedService;
use crate::model::service::Service;
use crate::model::world::World;

/// The object behind a name.
#[derive(Debug, Eq, PartialEq)]
pub enum Found<'z> {
    /// The name does not exist.
    Nothing,
    /// The name does not exist now, but may soon: it belongs to a headless Service, and endpoints come and go.
    NothingYet,
    /// The name exists and has no records of the types that are asked for.
    Bare,
    /// The version of the specification.
    Version,
    /// Addresses of this name server.
    NameServer,
    Alias(&'z str),
    /// Never empty.
    Places(Vec<Place<'z>>),
}

/// A target of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place<'z> {
    /// The name it has below the domain: a Service's.
    pub service: NameRef<'z>,
    /// And an endpoint's before that.
    pub host: Option<Host<'z>>,
    pub addr: IpAddr,
    /// None where the Service has no ports.
    pub port: Option<u16>,
}

/// An endpoint's name below its Service's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host<'z> {
    Named(&'z str),
    Unnamed(IpAddr),
}

impl Host<'_> {
    /// The label, as CoreDNS makes it of an address: dots and colons become hyphens.
    pub fn label(&self) -> String {
        match self {
            Self::Named(name) => (*name).to_owned(),
            Self::Unnamed(addr) => label_of_address(*addr),
        }
    }
}

fn label_of_address(addr: IpAddr) -> String {
    let mut label = addr.to_string().replace(['.', ':'], "-");
    if addr.is_ipv6() && label.ends_with('-') {
        label.push('0');
    }
    label
}

/// The address that such a label is made of.
pub fn address_of_label(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    let addr = v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()?;
    (label_of_address(addr) == label).then_some(addr)
}

impl Zone {
    pub(super) fn find<'z>(&'z self, subject: Subject<'_>) -> Found<'z> {
        match subject {
            Subject::Branch => Found::Bare,
            Subject::Version => Found::Version,
            Subject::NameServer => Found::NameServer,
            Subject::Nowhere => Found::Nothing,
            Subject::Namespace(namespace) if has_namespace(&self.world, namespace) => Found::Bare,
            Subject::Namespace(_) => Found::Nothing,
            Subject::Service(name) => self.find_service(name, None, PortRef::default()),
            Subject::Endpoint(name, host) => self.find_service(name, Some(host), PortRef::default()),
            Subject::Port(name, port) => self.find_service(name, None, port),
        }
    }

    fn find_service(&self, name: NameRef<'_>, host: Option<&str>, port: PortRef<'_>) -> Found<'_> {
        let world = &self.world;
        if let Some((key, service)) = world.services.get_key_value(&name) {
            return match host {
                None => places_or(Found::Nothing, cluster_places(key, service, port)),
                Some(host) => places_or(Found::Nothing, endpoint_places(world, key, Some(host), port)),
            };
        }
        let Some((key, service)) = world.named.services.get_key_value(&name) else { return Found::Nothing };
        match (&**service, host) {
            (NamedService::ExternalName(alias), None) if port == PortRef::default() => Found::Alias(alias),
            (NamedService::ExternalName(_), _) => Found::Nothing,
            (NamedService::Headless, host) => {
                places_or(Found::NothingYet, endpoint_places(world, key, host, port))
            }
            (NamedService::Foreign(service), None) => {
                places_or(Found::Nothing, cluster_places(key, service, port))
            }
            (NamedService::Foreign(_), host) => {
                places_or(Found::Nothing, endpoint_places(world, key, host, port))
            }
        }
    }
}

fn places_or<'z>(otherwise: Found<'z>, places: Vec<Place<'z>>) -> Found<'z> {
    if places.is_empty() { otherwise } else { Found::Places(places) }
}

/// A namespace exists if anything is in it that DNS knows.
fn has_namespace(world: &World, namespace: &str) -> bool {
    fn has<V: Clone>(map: &OrdMap<ServiceName, V>, namespace: &str) -> bool {
        let first = NameRef { namespace, name: "" };
        map.range(first..).next().is_some_and(|(key, _)| &*key.namespace == namespace)
    }
    has(&world.services, namespace)
        || has(&world.named.services, namespace)
        || has(&world.slices, namespace)
        || has(&world.named.slices, namespace)
}

fn is_asked_for(port: PortRef<'_>, name: &str, proto: Proto) -> bool {
    (port.port.is_empty() || port.port.eq_ignore_ascii_case(name))
        && (port.protocol.is_empty() || port.protocol.eq_ignore_ascii_case(proto_label(proto)))
}

/// The ClusterIPs of a Service, once for each port that is asked for.
fn cluster_places<'z>(key: &'z ServiceName, service: &'z Service, port: PortRef<'_>) -> Vec<Place<'z>> {
    let place = |addr, port| Place { service: key.into(), host: None, addr, port };
    let addresses = || service.families.iter().map(|family| family.cluster_ip);
    if service.ports.is_empty() && port == PortRef::default() {
        return addresses().map(|addr| place(addr, None)).collect();
    }
    let ports = service.ports.iter().filter(|p| is_asked_for(port, &p.name, p.proto));
    ports.flat_map(|p| addresses().map(move |addr| place(addr, Some(p.port.get())))).collect()
}

/// The ready endpoints of a Service, all or those of one name, once for each port that is asked for (SEM-324).
pub fn endpoint_places<'z>(
    world: &'z World,
    key: &'z ServiceName,
    host: Option<&str>,
    port: PortRef<'_>,
) -> Vec<Place<'z>> {
    let wanted = host.and_then(address_of_label);
    let mut places = Vec::new();
    for slice in world.named_slices_of(key) {
        let ports: Vec<Option<u16>> = match slice.ports.is_empty() {
            true if port == PortRef::default() => vec![None],
            true => Vec::new(),
            false => {
                let ports = slice.ports.iter().filter(|p| is_asked_for(port, &p.name, p.proto));
                ports.map(|p| Some(p.port.get())).collect()
            }
        };
        for (i, endpoint) in slice.endpoints.iter().enumerate().filter(|(_, e)| e.ready) {
            let name = slice.hostnames.get(i).map(Arc::as_ref);
            let is_wanted = match (host, name) {
                (None, _) => true,
                (Some(host), Some(name)) => name.eq_ignore_ascii_case(host),
                (Some(_), None) => wanted == Some(endpoint.addr),
            };
            if is_wanted {
                let host = Some(name.map_or(Host::Unnamed(endpoint.addr), Host::Named));
                let place = |&port| Place { service: key.into(), host, addr: endpoint.addr, port };
                places.extend(ports.iter().map(place));
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_325_an_address_makes_a_label_and_a_label_an_address() {
        for (addr, label) in [
            ("172.0.0.2", "172-0-0-2"),
            ("5678:abcd::1", "5678-abcd--1"),
            ("fd00::", "fd00--0"),
            ("::1", "--1"),
        ] {
            let addr: IpAddr = addr.parse().unwrap();
            assert_eq!((label_of_address(addr), address_of_label(label)), (label.to_owned(), Some(addr)));
        }
        for label in ["web-0", "1-2-3", "01-2-3-4", "fd00--", "fd00-0-0-0-0-0-0-0", "a-b-c-d-e-f-1-2-3"] {
            assert_eq!(address_of_label(label), None, "{label}");
        }
    }
}
