//! A Service that this node proxies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use svc_common::addr::Proto;

use super::name::{IpFamily, ServiceName, ServicePortKey};

/// The parts of a Service that affect the tables. It has at least one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    pub name: ServiceName,
    /// Seconds since 1970; decides which of two Services gets an address that both claim.
    pub created: Option<i64>,
    /// One entry per family with a ClusterIP. A family without ClusterIP has no frontends (SEM-005).
    pub families: Vec<ServiceAddresses>,
    /// Each pair of name and protocol once.
    pub ports: Vec<ServicePort>,
    /// `internalTrafficPolicy: Local` (SEM-019).
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`, if the field applies to this Service (SEM-019).
    pub external_local: bool,
    /// Timeout of `sessionAffinity: ClientIP` in seconds, counted from the client's last new connection.
    pub affinity: Option<NonZeroU32>,
    /// How backends are selected, if the Service says so.
    pub selection: Option<Selection>,
    /// Its ClusterIP is served even if the node has that address.
    pub serves_own_address: bool,
    /// Load balancers ask at this port whether this node has ready endpoints (SEM-200).
    pub health_check_port: Option<NonZeroU16>,
    /// Select advertisements of BGP; empty for a Service without load-balancer addresses.
    pub labels: Arc<BTreeMap<String, String>>,
}

/// NodePorts of a cluster with the default `--service-node-port-range`.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// How the backend of a new flow is selected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selection {
    Random,
    /// By a table that is the same on every node (`plan::maglev`).
    Maglev,
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "random" => Ok(Self::Random),
            "maglev" => Ok(Self::Maglev),
            _ => Err(format!("{text:?} is not a way to choose (random, maglev)")),
        }
    }
}

/// The addresses of a Service in one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceAddresses {
    pub cluster_ip: IpAddr,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Clients that may use the load-balancer addresses; empty: all (SEM-030).
    pub source_ranges: Vec<IpNet>,
}

impl ServiceAddresses {
    pub const fn family(&self) -> IpFamily {
        IpFamily::of(self.cluster_ip)
    }
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServicePort {
    /// Empty for a single unnamed port.
    pub name: Arc<str>,
    pub proto: Proto,
    pub port: NonZeroU16,
    pub node_port: Option<NonZeroU16>,
}

impl Service {
    pub fn key(&self, port: &ServicePort) -> ServicePortKey {
        ServicePortKey { service: self.name.clone(), port: Arc::clone(&port.name), proto: port.proto }
    }
}

impl ServicePort {
    /// The port has a frontend for clients outside the cluster in this family (SEM-019).
    pub fn is_externally_accessible(&self, family: &ServiceAddresses) -> bool {
        self.node_port.is_some() || !family.external_ips.is_empty() || !family.load_balancer_ips.is_empty()
    }
}
