//! A complaint: something that an operator or the owner of a Service should know. Refused fields, conflicts, missing
//! kernel features, failures. Complaints are counted, logged and shown, and never fatal.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::name::{ServiceName, SliceKey};

/// One complaint.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Complaint {
    /// Kind, namespace and name; or file and document if there is no object yet.
    pub object: String,
    /// Path of the field; empty if the complaint is about the whole object.
    pub field: String,
    /// The reason as a sentence.
    pub reason: String,
    pub kind: Kind,
    /// The Service whose owner should get the complaint.
    #[serde(skip)]
    pub service: Option<ServiceName>,
}

/// Kind of a complaint.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A part of an object was refused.
    Refused,
    /// A ClusterIP is an address of the node, and the node keeps it.
    OwnAddress,
    /// A table has no room for a part of a Service.
    NoRoom,
    /// A health check node port cannot be opened.
    HealthPort,
    /// SCTP from a node's own network is not translated.
    SctpFromNodes,
    /// SCTP in fragments is not translated.
    SctpFragments,
    /// A table that cannot grow is 70 % full.
    TableNearlyFull,
    /// The kernel or the host lacks a feature or setting.
    Host,
    /// Another program on the node may interfere.
    Conflict,
    /// The source of Services cannot be read.
    Source,
    /// The Node object is missing or may not be read.
    Node,
    /// A Pod or a node of the manifests does not answer.
    NotReady,
    /// A Service gets no load-balancer address.
    NoAddress,
    /// A foreign host has a load-balancer address.
    AddressInUse,
    /// A router that addresses are announced to has no session with this node, or does not get all routes.
    Peer,
    /// A part of the configuration file is not in force.
    Configuration,
    /// An attachment, pin or write failed and is retried.
    Failed,
}

impl Kind {
    pub const ALL: [Self; 17] = [
        Self::Refused,
        Self::OwnAddress,
        Self::NoRoom,
        Self::HealthPort,
        Self::SctpFromNodes,
        Self::SctpFragments,
        Self::TableNearlyFull,
        Self::Host,
        Self::Conflict,
        Self::Source,
        Self::Node,
        Self::NotReady,
        Self::NoAddress,
        Self::AddressInUse,
        Self::Peer,
        Self::Configuration,
        Self::Failed,
    ];

    /// The reason of an Event, in camel case.
    pub const fn event_reason(self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::OwnAddress => "LeftToNode",
            Self::NoRoom => "TableFull",
            Self::HealthPort => "FailedToStartServiceHealthcheck",
            Self::SctpFromNodes => "SctpFromNodesNotServed",
            Self::SctpFragments => "SctpFragmentsDropped",
            Self::TableNearlyFull => "TableNearlyFull",
            Self::Host => "HostNotReady",
            Self::Conflict => "MayConflict",
            Self::Source => "SourceFailed",
            Self::Node => "NodeUnknown",
            Self::NotReady => "NotReady",
            Self::NoAddress => "AllocationFailed",
            Self::AddressInUse => "AddressInUse",
            Self::Peer => "PeerNotReady",
            Self::Configuration => "ConfigurationNotInForce",
            Self::Failed => "Failed",
        }
    }

    /// The action of an Event, in one word: the action that svc does not take.
    pub const fn event_action(self) -> &'static str {
        match self {
            Self::Refused | Self::OwnAddress | Self::NoRoom | Self::TableNearlyFull | Self::NotReady => {
                "Serve"
            }
            Self::NoAddress => "Allocate",
            Self::AddressInUse | Self::Peer => "Announce",
            Self::HealthPort => "Listen",
            Self::SctpFromNodes | Self::SctpFragments => "Translate",
            Self::Source | Self::Node => "Watch",
            Self::Configuration => "Configure",
            Self::Host | Self::Conflict | Self::Failed => "Attach",
        }
    }

    /// Every node has the same complaint, so one Event in the cluster is enough.
    pub const fn is_same_on_every_node(self) -> bool {
        matches!(self, Self::Refused | Self::SctpFromNodes | Self::SctpFragments)
    }
}

/// Origin of a complaint. Each origin replaces its own complaints only.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// The connection to the API server, or files that cannot be read.
    Source,
    /// Probes of Pods in manifests, and their results.
    Pods,
    /// Refused fields of an object.
    Service(ServiceName),
    Slice(SliceKey),
    Node(Arc<str>),
    /// This node's Node object.
    ThisNode,
    /// Parts of a Service that the plan could not serve.
    Plan(ServiceName),
    /// Addresses of this node without room in the tables.
    NodeAddresses,
    /// Features of a Service that svc does not have.
    Limits(ServiceName),
    HealthPort(ServiceName),
    /// An ExternalName that is part of a loop.
    Alias(ServiceName),
    /// An address of `--dns`.
    DnsAddress(SocketAddr),
    /// Name servers for names of other domains.
    DnsUpstream,
    /// The ranges of ClusterIPs, as the API server has them.
    ServiceCidrs,
    /// The configuration file.
    Configuration,
    /// Load-balancer addresses that cannot be announced.
    Announced,
    /// Sessions of BGP.
    Bgp,
    /// Load-balancer addresses that this node gives to the Services of a cluster.
    Allocator,
    /// The Services and Nodes that the allocator reads.
    AllocatorSource,
    /// The Lease of the node that gives load-balancer addresses.
    AllocatorLease,
    /// This node's own Lease.
    NodeLease,
    /// The Leases of all nodes, as they are read.
    NodeLeases,
    /// Addresses of HTTP servers (`/healthz` and others).
    Listeners,
    /// Use of the tables.
    Tables,
    /// Refused writes.
    Writes,
    /// Kernel features and settings of the host.
    Host,
    /// Netfilter chains.
    Firewall,
    /// Interfaces whose role is in doubt, and those left by another proxy.
    Interfaces,
    /// Programs and their hooks.
    Programs,
    /// Ending stale UDP sockets.
    Sockets,
    /// Measuring how long programs run.
    RunTime,
}

impl Complaint {
    pub fn new(
        kind: Kind,
        object: impl Into<String>,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { object: object.into(), field: field.into(), reason: reason.into(), kind, service: None }
    }

    /// A refused field. The rest of its object is used if that makes sense.
    pub fn refused(object: impl Into<String>, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(Kind::Refused, object, field, reason)
    }

    pub fn of_service(
        kind: Kind,
        service: &ServiceName,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        let complaint = Self::new(kind, format!("Service {service}"), field, reason);
        Self { service: Some(service.clone()), ..complaint }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}: {}", self.object, self.reason),
            field => write!(f, "{}: {field}: {}", self.object, self.reason),
        }
    }
}
