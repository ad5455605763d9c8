//! Identities: services, service ports, slices, and the two address families.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;

use svc_common::addr::Proto;

/// An address family as a value.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The address that stands for "any" in a NodePort frontend.
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// As `spec.ipFamilies` and `addressType` spell it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.label() == label)
    }
}

/// Kubernetes' word for a protocol.
pub const fn proto_label(proto: Proto) -> &'static str {
    match proto {
        Proto::TCP => "TCP",
        Proto::UDP => "UDP",
        Proto::SCTP => "SCTP",
        _ => "unknown",
    }
}

/// A protocol by Kubernetes' word for it.
pub fn proto_from_label(label: &str) -> Option<Proto> {
    [Proto::TCP, Proto::UDP, Proto::SCTP].into_iter().find(|&p| proto_label(p) == label)
}

/// A Kubernetes Service. One word: many tables have names of Services as keys.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ServiceName(Arc<NamespacedName>);

#[derive(Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NamespacedName {
    pub namespace: Arc<str>,
    pub name: Box<str>,
}

impl ServiceName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self::in_namespace(namespace.into(), name)
    }

    pub fn in_namespace(namespace: Arc<str>, name: &str) -> Self {
        Self(Arc::new(NamespacedName { namespace, name: name.into() }))
    }

    /// Nobody else holds this copy of the name.
    pub fn is_only_copy(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Deref for ServiceName {
    type Target = NamespacedName;

    fn deref(&self) -> &NamespacedName {
        &self.0
    }
}

impl PartialOrd for ServiceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ServiceName {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A service port: the identity that survives every change of address, number and endpoints (SEM-007).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServicePortKey {
    pub service: ServiceName,
    /// Empty for a single port without a name.
    pub port: Arc<str>,
    pub proto: Proto,
}

impl fmt::Display for ServicePortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "/{}", proto_label(self.proto))
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SliceKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl SliceKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_reads_as_kube_proxy_prints_it() {
        let service = ServiceName::new("default", "web");
        let named = ServicePortKey { service: service.clone(), port: "http".into(), proto: Proto::TCP };
        assert_eq!(named.to_string(), "default/web:http/TCP");
        let unnamed = ServicePortKey { service, port: "".into(), proto: Proto::UDP };
        assert_eq!(unnamed.to_string(), "default/web/UDP");
    }
}
