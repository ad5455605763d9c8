//! EndpointSlices, and the endpoints of a service port that result from the slices of its Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use svc_common::addr::Proto;

use super::name::{IpFamily, ServiceName, SliceKey};

/// A possible target of a Service's traffic, before policies apply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    pub addr: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<Arc<str>>,
    pub hints: Hints,
}

/// The zones and nodes whose clients should use an endpoint. Most endpoints have none, and there may be a million
/// endpoints.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hints(Option<Box<[BTreeSet<Arc<str>>; 2]>>);

impl Hints {
    pub fn new(zones: impl IntoIterator<Item = Arc<str>>, nodes: impl IntoIterator<Item = Arc<str>>) -> Self {
        let names = [zones.into_iter().collect(), nodes.into_iter().collect::<BTreeSet<_>>()];
        Self(names.iter().any(|names| !names.is_empty()).then(|| Box::new(names)))
    }

    pub fn zones(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.0.as_ref().map(|names| &names[0]).filter(|zones| !zones.is_empty())
    }

    pub fn nodes(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.0.as_ref().map(|names| &names[1]).filter(|nodes| !nodes.is_empty())
    }
}

/// A port of all endpoints of a slice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlicePort {
    pub name: Arc<str>,
    pub proto: Proto,
    pub port: NonZeroU16,
}

/// All slices of a Service, in the order of their names. Readers see them only together (SEM-056).
pub type Slices = Arc<[Arc<Slice>]>;

/// The parts of an EndpointSlice that affect the tables. All its endpoints are of its family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slice {
    pub key: SliceKey,
    pub service: ServiceName,
    pub family: IpFamily,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
    /// Host names of the endpoints, in the same order. Only DNS reads them.
    pub hostnames: Hostnames,
    /// Pods of the endpoints, in the same order. Only answers to people read them.
    pub pods: PodNames,
    /// It has the label of a headless Service's slices; only DNS reads it (SEM-004).
    pub is_headless: bool,
    pub triggered: Triggered,
}

/// `hostname` of the endpoints of a slice. Few endpoints have one, and it is stored only if DNS is on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hostnames(Option<Box<[Option<Arc<str>>]>>);

impl Hostnames {
    pub fn get(&self, endpoint: usize) -> Option<&Arc<str>> {
        self.0.as_ref()?.get(endpoint)?.as_ref()
    }
}

impl FromIterator<Option<Arc<str>>> for Hostnames {
    fn from_iter<T: IntoIterator<Item = Option<Arc<str>>>>(names: T) -> Self {
        let names: Box<[Option<Arc<str>>]> = names.into_iter().collect();
        Self(names.iter().any(Option::is_some).then_some(names))
    }
}

/// `targetRef` of the endpoints of a slice, where it names a Pod: `namespace/name`. One text for all, a line an endpoint, since there
/// may be a million endpoints.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodNames(Option<Box<str>>);

impl PodNames {
    pub fn get(&self, endpoint: usize) -> Option<&str> {
        self.0.as_ref()?.split('\n').nth(endpoint).filter(|name| !name.is_empty())
    }
}

impl FromIterator<Option<String>> for PodNames {
    /// A name with a line break is none that Kubernetes allows, and counts as missing.
    fn from_iter<T: IntoIterator<Item = Option<String>>>(names: T) -> Self {
        let names =
            names.into_iter().map(|name| name.filter(|name| !name.contains('\n')).unwrap_or_default());
        let lines = names.collect::<Vec<_>>().join("\n");
        Self(lines.bytes().any(|octet| octet != b'\n').then(|| lines.into()))
    }
}

/// Time of the Pod's or Service's change that caused this version of a slice, in milliseconds since 1970. All values
/// compare equal: the time is only measured and affects no table (SEM-055).
#[derive(Clone, Copy, Debug, Default)]
pub struct Triggered(pub Option<u64>);

impl PartialEq for Triggered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Triggered {}

/// An endpoint with the number of the requested port.
#[derive(Clone, Copy, Debug)]
pub struct PortEndpoint<'a> {
    pub port: u16,
    pub endpoint: &'a Endpoint,
}

impl PortEndpoint<'_> {
    pub const fn target(&self) -> (IpAddr, u16) {
        (self.endpoint.addr, self.port)
    }
}

/// All endpoints of a service port in one family, sorted, each (address, port) once. Of duplicates the first one is
/// used, unless it is terminating and a later one is not (SEM-046, SEM-051).
pub fn port_endpoints<'a>(
    slices: impl IntoIterator<Item = &'a Slice>,
    family: IpFamily,
    name: &str,
    proto: Proto,
) -> Vec<PortEndpoint<'a>> {
    let mut merged: BTreeMap<(IpAddr, u16), PortEndpoint<'a>> = BTreeMap::new();
    for slice in slices.into_iter().filter(|s| s.family == family) {
        for port in slice.ports.iter().filter(|p| &*p.name == name && p.proto == proto) {
            for endpoint in &slice.endpoints {
                let found = PortEndpoint { port: port.port.get(), endpoint };
                merged
                    .entry(found.target())
                    .and_modify(|kept| {
                        if kept.endpoint.terminating && !endpoint.terminating {
                            *kept = found;
                        }
                    })
                    .or_insert(found);
            }
        }
    }
    merged.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, port: u16, endpoints: &[(&str, bool)]) -> Slice {
        Slice {
            key: SliceKey::new("default", name),
            service: ServiceName::new("default", "web"),
            family: IpFamily::V4,
            ports: vec![SlicePort {
                name: "http".into(),
                proto: Proto::TCP,
                port: NonZeroU16::new(port).unwrap(),
            }],
            endpoints: endpoints
                .iter()
                .map(|&(addr, terminating)| Endpoint {
                    addr: addr.parse().unwrap(),
                    ready: !terminating,
                    serving: true,
                    terminating,
                    node: None,
                    hints: Hints::default(),
                })
                .collect(),
            hostnames: Hostnames::default(),
            pods: PodNames::default(),
            is_headless: false,
            triggered: Triggered::default(),
        }
    }

    fn targets(slices: &[Slice]) -> Vec<(String, u16, bool)> {
        port_endpoints(slices, IpFamily::V4, "http", Proto::TCP)
            .iter()
            .map(|e| (e.endpoint.addr.to_string(), e.port, e.endpoint.terminating))
            .collect()
    }

    #[test]
    fn pods_are_named_by_the_index_of_their_endpoint_and_a_missing_name_is_none() {
        let names =
            [Some("shop/web-1".to_owned()), None, Some("a\nb".to_owned()), Some("shop/web-2".to_owned())];
        let pods: PodNames = names.into_iter().collect();
        let found: Vec<_> = (0..5).map(|endpoint| pods.get(endpoint)).collect();
        assert_eq!(found, [Some("shop/web-1"), None, None, Some("shop/web-2"), None]);
        assert_eq!(PodNames::from_iter([None, None]), PodNames::default());
    }

    #[test]
    fn sem_046_slices_of_one_port_name_join_whatever_their_numbers() {
        let slices = [slice("a", 8080, &[("10.0.0.1", false)]), slice("b", 9090, &[("10.0.0.2", false)])];
        assert_eq!(
            targets(&slices),
            [("10.0.0.1".to_owned(), 8080, false), ("10.0.0.2".to_owned(), 9090, false)]
        );
    }

    #[test]
    fn sem_051_a_running_duplicate_takes_the_place_of_a_terminating_one_and_not_the_reverse() {
        let (old, new) = (slice("a", 80, &[("10.0.0.1", true)]), slice("b", 80, &[("10.0.0.1", false)]));
        assert_eq!(targets(&[old.clone(), new.clone()]), [("10.0.0.1".to_owned(), 80, false)]);
        assert_eq!(targets(&[new, old]), [("10.0.0.1".to_owned(), 80, false)]);
    }

    #[test]
    fn sem_046_other_ports_protocols_and_families_are_not_joined() {
        let slices = [slice("a", 80, &[("10.0.0.1", false)])];
        assert!(port_endpoints(&slices, IpFamily::V4, "https", Proto::TCP).is_empty());
        assert!(port_endpoints(&slices, IpFamily::V4, "http", Proto::UDP).is_empty());
        assert!(port_endpoints(&slices, IpFamily::V6, "http", Proto::TCP).is_empty());
    }
}
