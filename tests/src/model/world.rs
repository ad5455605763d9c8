//! Kubernetes' objects as plain values: Services, EndpointSlices, this node.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The node under test.
pub const THIS_NODE: &str = "this-node";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proto {
    Tcp,
    Udp,
    Sctp,
    /// Echo requests, which no Service has.
    Icmp,
}

/// Addresses and ports of one direction.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Tuple {
    pub proto: Proto,
    pub src: SocketAddr,
    pub dst: SocketAddr,
}

impl Tuple {
    /// The opposite direction.
    pub fn swapped(self) -> Self {
        Self { src: self.dst, dst: self.src, ..self }
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} > {}", self.proto, self.src, self.dst)
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct World {
    /// Label `topology.kubernetes.io/zone` of this node.
    pub zone: Option<&'static str>,
    pub node_ports: NodePorts,
    /// The node has addresses towards its pods, to masquerade with.
    pub has_pod_addresses: bool,
    pub settings: Settings,
    /// A rule that the model breaks, to check that a test notices; usually none.
    pub broken: Option<&'static str>,
    pub services: Vec<Service>,
    /// In the order of their names.
    pub slices: Vec<Slice>,
}

impl World {
    /// The model follows this rule.
    pub fn holds(&self, rule: &str) -> bool {
        self.broken != Some(rule)
    }
}

/// The operator's settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// `--masquerade-all`.
    pub masquerade_all: bool,
    /// `--masquerade-local-backends`.
    pub masquerade_to_local: bool,
    /// Pods of this node are recognised by their interface. Otherwise no client counts as a pod (SEM-090).
    pub knows_pods: bool,
    /// `--service-cidr`: the range of ClusterIPs.
    pub has_service_cidr: bool,
    /// Load-balancer pools: the range of the Services' addresses.
    pub has_pools: bool,
    /// Selection of backends. The rules only require that one of them is selected.
    pub selection: Option<Selection>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selection {
    Random,
    Maglev,
}

/// The node's addresses that accept NodePorts (SEM-020 to SEM-022).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodePorts {
    All,
    Primary,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    pub name: String,
    /// `spec.type`.
    pub kind: &'static str,
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub ingress: Vec<Ingress>,
    /// `loadBalancerSourceRanges`: address and length of the prefix.
    pub source_ranges: Vec<(IpAddr, u8)>,
    /// `internalTrafficPolicy` and `externalTrafficPolicy` are Local.
    pub internal_local: bool,
    pub external_local: bool,
    /// `sessionAffinity: ClientIP`, with its timeout in seconds.
    pub affinity: Option<u32>,
    pub ports: Vec<Port>,
}

/// An entry of `status.loadBalancer.ingress`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ingress {
    pub ip: IpAddr,
    pub mode: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Port {
    pub name: &'static str,
    pub proto: Proto,
    pub port: u16,
    pub node_port: Option<u16>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slice {
    pub name: String,
    pub service: String,
    pub is_v4: bool,
    /// Name, protocol and number.
    pub ports: Vec<(&'static str, Proto, u16)>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    pub addr: IpAddr,
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
    pub node: Option<&'static str>,
    pub zone_hints: Vec<&'static str>,
    pub node_hints: Vec<&'static str>,
}

impl Endpoint {
    pub fn is_ready(&self, world: &World) -> bool {
        self.ready.unwrap_or(world.holds("SEM-048"))
    }
    pub fn is_serving(&self) -> bool {
        self.serving.unwrap_or(true)
    }
    pub fn is_terminating(&self) -> bool {
        self.terminating.unwrap_or(false)
    }
}
