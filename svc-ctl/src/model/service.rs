//! A Service that this node proxies.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use svc_common::addr::Proto;

use super::name::{IpFamily, ServiceName, ServicePortKey};

/// A Service reduced to what changes the tables. It has at least one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    pub name: ServiceName,
    /// Seconds since 1970; decides who keeps an address that two Services claim.
    pub created: Option<i64>,
    /// One entry per family that has a ClusterIP; a family without one has no frontends at all (SEM-005).
    pub families: Vec<ServiceAddresses>,
    /// By name and protocol, each pair once.
    pub ports: Vec<ServicePort>,
    /// `internalTrafficPolicy: Local` (SEM-019).
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local` where it has a meaning (SEM-019).
    pub external_local: bool,
    /// `sessionAffinity: ClientIP`: seconds that a client stays with its backend after its last new connection.
    pub affinity: Option<NonZeroU32>,
    /// How backends are chosen, where the Service says so.
    pub selection: Option<Selection>,
    /// Its ClusterIP is served also where it is an address of the node itself.
    pub serves_own_address: bool,
    /// Where load balancers ask whether this node has ready endpoints (SEM-200).
    pub health_check_port: Option<NonZeroU16>,
}

/// NodePorts of a cluster that says nothing else (`--service-node-port-range` of the API server).
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// How the backend of a new flow is chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selection {
    Random,
    /// By a table that every node makes the same (`plan::maglev`).
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
    /// Who may use the load-balancer addresses; empty: everybody (SEM-030).
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
    /// Empty for a single port without a name.
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
    /// It has a frontend for clients outside the cluster in this family (SEM-019).
    pub fn is_externally_accessible(&self, family: &ServiceAddresses) -> bool {
        self.node_port.is_some() || !family.external_ips.is_empty() || !family.load_balancer_ips.is_empty()
    }
}
