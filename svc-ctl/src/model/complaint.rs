//! What an operator or the owner of a Service should know: refused fields, problems, missing kernel features, failures.
//! Counted, logged and shown, never fatal.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::name::{ServiceName, SliceKey};

/// One thing that is not as somebody wants it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Complaint {
    /// Kind, namespace and name; or file and document where there is no object yet.
    pub object: String,
    /// Path of the field, empty where the whole object is meant.
    pub field: String,
    /// In plain words.
    pub reason: String,
    pub kind: Kind,
    /// The Service whose owner should hear of it.
    #[serde(skip)]
    pub service: Option<ServiceName>,
}

/// What sort of thing a complaint is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A part of an object is refused.
    Refused,
    /// A ClusterIP is the node's own address, and left to it.
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
    /// The kernel or the host lacks something.
    Host,
    /// Something else on the node may get in the way.
    Conflict,
    /// The source of Services cannot be read.
    Source,
    /// The Node object is missing or may not be read.
    Node,
    /// A part of the configuration file is not in force.
    Configuration,
    /// Something could not be attached, pinned or written, and is tried again.
    Failed,
}

impl Kind {
    pub const ALL: [Self; 13] = [
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
        Self::Configuration,
        Self::Failed,
    ];

    /// The reason of an Event: a word in camel case.
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
            Self::Configuration => "ConfigurationNotInForce",
            Self::Failed => "Failed",
        }
    }

    /// The action of an Event: what is not done, in a word.
    pub const fn event_action(self) -> &'static str {
        match self {
            Self::Refused | Self::OwnAddress | Self::NoRoom | Self::TableNearlyFull => "Serve",
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

/// Who complains: each origin replaces its own complaints and no others.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// The connection to the API server, or files that cannot be read.
    Source,
    /// Refused fields of an object.
    Service(ServiceName),
    Slice(SliceKey),
    Node(Arc<str>),
    /// The Node object that this daemon looks for.
    ThisNode,
    /// What the plan could not give a Service.
    Plan(ServiceName),
    /// Addresses of this node for which there is no room.
    NodeAddresses,
    /// What svc does not do for a Service.
    Limits(ServiceName),
    HealthPort(ServiceName),
    /// An ExternalName that leads in a circle.
    Alias(ServiceName),
    /// An address of `--dns`.
    DnsAddress(SocketAddr),
    /// Name servers that are asked for names of other domains.
    DnsUpstream,
    /// The ranges of ClusterIPs, as the API server has them.
    ServiceCidrs,
    /// The configuration file.
    Configuration,
    /// `/healthz` and its like.
    Listeners,
    /// How full tables are.
    Tables,
    /// Writes that the kernel refuses.
    Writes,
    /// Kernel features and settings of the host.
    Host,
    /// Rules of netfilter.
    Firewall,
    /// Interfaces whose role is in doubt, and what another proxy left on them.
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

    /// A field that could not be used. The rest of its object is used where that makes sense.
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
