//! The language of rows: services, existing flows, packets with their results, remaining state.

use svc_common::abi::{Counter, FrontendFlags, IfaceFlags, Locality, Migration};

use super::affinity::AffinityEntry;
use super::flow::Flow;
use super::maglev::Maglev;
use super::sockets::NodeSocket;
use super::wire::{L4, Packet};

/// A frontend and its backends; the same for TCP, UDP and SCTP.
#[derive(Clone, Debug)]
pub struct Service {
    /// `HOST:PORT`; host `any` is a NodePort.
    pub frontend: &'static str,
    pub flags: FrontendFlags,
    pub cluster: &'static [&'static str],
    pub local: &'static [&'static str],
    /// The frontend's extent is outside of the table.
    pub is_torn: bool,
    /// Timeout of session affinity in seconds; 0: none.
    pub affinity: u32,
    /// Source ranges, if any: `HOST/BITS`, all addresses that differ from the host's only in the last bits.
    pub sources: &'static [&'static str],
    /// Selection by a Maglev table.
    pub maglev: Option<Maglev>,
}

pub fn cluster_ip(frontend: &'static str, backends: &'static [&'static str]) -> Service {
    // Local pods can be recognised.
    let flags = FrontendFlags::MASQUERADE_OTHERS;
    Service {
        frontend,
        flags,
        cluster: backends,
        local: &[],
        is_torn: false,
        affinity: 0,
        sources: &[],
        maglev: None,
    }
}

/// A NodePort (`any:PORT`), or an external IP.
pub fn external(frontend: &'static str, backends: &'static [&'static str]) -> Service {
    let service = cluster_ip(frontend, backends);
    let flags = service.flags.with(FrontendFlags::EXTERNAL).with(FrontendFlags::MASQUERADE_PODS);
    Service { flags, ..service }
}

impl Service {
    /// `externalTrafficPolicy: Local`, with these backends on this node.
    pub fn local_only(self, local: &'static [&'static str]) -> Self {
        // No masquerade (SEM-085).
        let service = self.masquerades_none();
        Self { flags: service.flags.with(FrontendFlags::LOCAL_ONLY), local, ..service }
    }

    /// Another node has endpoints, whatever the extents contain.
    pub fn usable_elsewhere(self) -> Self {
        Self { flags: self.flags.with(FrontendFlags::USABLE_ELSEWHERE), ..self }
    }

    pub fn torn(self) -> Self {
        Self { is_torn: true, ..self }
    }

    /// `--masquerade-all`.
    pub fn masquerades_all(self) -> Self {
        Self { flags: self.flags.with(FrontendFlags::MASQUERADE_PODS), ..self }
    }

    /// Local pods cannot be recognised.
    pub fn masquerades_none(self) -> Self {
        let bits = FrontendFlags::MASQUERADE_PODS.0 | FrontendFlags::MASQUERADE_OTHERS.0;
        Self { flags: FrontendFlags(self.flags.0 & !bits), ..self }
    }

    /// `--masquerade-local-backends`.
    pub fn masquerades_to_local(self) -> Self {
        Self { flags: self.flags.with(FrontendFlags::MASQUERADE_TO_LOCAL), ..self }
    }

    /// `loadBalancerSourceRanges`.
    pub fn only_for(self, sources: &'static [&'static str]) -> Self {
        Self { flags: self.flags.with(FrontendFlags::SOURCE_RANGES), sources, ..self }
    }

    /// Selection by a Maglev table of that many pages, with this index of a backend at the place of the row's first
    /// packet, and another index elsewhere.
    pub fn by_maglev(self, pages: u32, there: u16, elsewhere: u16) -> Self {
        Self { maglev: Some(Maglev { pages, there, elsewhere }), ..self }
    }

    /// `sessionAffinity: ClientIP`.
    pub fn affine(self, seconds: u32) -> Self {
        Self { affinity: seconds, ..self }
    }
}

/// Location of the named backend.
pub fn locality(backend: &str) -> Locality {
    match backend.split(':').next() {
        Some("node" | "node-b" | "bridge") => Locality::HOST,
        Some("pod-a" | "pod-b" | "port-a" | "port-b") => Locality::LOCAL,
        _ => Locality::REMOTE,
    }
}

/// Hook at which a packet is seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    PodIngress,
    PodEgress,
    UplinkIngress,
    UplinkEgress,
    TunnelIngress,
    TunnelEgress,
    Xdp,
    /// At XDP, and at TC ingress of the uplink: one case each, with the same result.
    Outside,
}

impl At {
    pub fn program(self) -> &'static str {
        match self {
            Self::PodIngress => "pod_ingress",
            Self::PodEgress => "pod_egress",
            Self::UplinkIngress | Self::Outside => "uplink_ingress",
            Self::UplinkEgress => "uplink_egress",
            Self::TunnelIngress => "tunnel_ingress",
            Self::TunnelEgress => "tunnel_egress",
            Self::Xdp => "uplink_xdp",
        }
    }

    pub fn is_tc(self) -> bool {
        self != Self::Xdp
    }

    pub fn is_ingress(self) -> bool {
        !matches!(self, Self::PodEgress | Self::UplinkEgress | Self::TunnelEgress)
    }

    /// Packets have no Ethernet header.
    pub fn is_tunnel(self) -> bool {
        matches!(self, Self::TunnelIngress | Self::TunnelEgress)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Problem {
    PortUnreachable,
    TooBig(u16),
    TimeExceeded,
}

/// Result for a packet.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Passed on unchanged.
    Untouched,
    /// Passed on with this content.
    Passes(Packet),
    /// Redirected to an interface with this content.
    Redirects(Packet),
    /// Dropped unchanged.
    Drops,
    /// Turned into an ICMP error from this host, sent back by the interface by which it came.
    Icmp(&'static str, Problem),
}

/// One packet at one hook.
#[derive(Clone, Debug)]
pub struct Step {
    pub at: At,
    pub interface: &'static str,
    pub packet: Packet,
    pub becomes: Expected,
    pub counters: &'static [Counter],
    /// Size of the segments into which the packet will be cut; 0: none.
    pub gso_size: u32,
    /// It counts for the Service.
    pub is_counted: bool,
}

fn step(at: At, interface: &'static str, packet: Packet) -> Step {
    Step { at, interface, packet, becomes: Expected::Untouched, counters: &[], gso_size: 0, is_counted: true }
}

pub fn pod_in(interface: &'static str, packet: Packet) -> Step {
    step(At::PodIngress, interface, packet)
}

pub fn pod_out(interface: &'static str, packet: Packet) -> Step {
    step(At::PodEgress, interface, packet)
}

pub fn up_in(interface: &'static str, packet: Packet) -> Step {
    step(At::UplinkIngress, interface, packet)
}

pub fn up_out(interface: &'static str, packet: Packet) -> Step {
    step(At::UplinkEgress, interface, packet)
}

pub fn tunnel_in(packet: Packet) -> Step {
    step(At::TunnelIngress, "tunnel0", packet)
}

pub fn tunnel_out(packet: Packet) -> Step {
    step(At::TunnelEgress, "tunnel0", packet)
}

pub fn xdp(interface: &'static str, packet: Packet) -> Step {
    step(At::Xdp, interface, packet)
}

pub fn outside(interface: &'static str, packet: Packet) -> Step {
    step(At::Outside, interface, packet)
}

impl Step {
    pub fn passes(self, packet: Packet) -> Self {
        Self { becomes: Expected::Passes(packet), ..self }
    }

    pub fn redirects(self, packet: Packet) -> Self {
        Self { becomes: Expected::Redirects(packet), ..self }
    }

    pub fn drops(self) -> Self {
        Self { becomes: Expected::Drops, ..self }
    }

    pub fn icmp(self, from: &'static str, problem: Problem) -> Self {
        Self { becomes: Expected::Icmp(from, problem), ..self }
    }

    pub fn counts(self, counters: &'static [Counter]) -> Self {
        Self { counters, ..self }
    }

    /// No Service counts it: the first flow of a masquerade has, or its client dials the backend itself.
    pub fn uncounted(self) -> Self {
        Self { is_counted: false, ..self }
    }

    pub fn in_segments_of(self, gso_size: u32) -> Self {
        Self { gso_size, ..self }
    }
}

/// One rule with one example.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    pub services: Vec<Service>,
    pub before: Vec<Flow>,
    /// Connections that conntrack translates, by the packets of their clients.
    pub tracked: Vec<Flow>,
    pub steps: Vec<Step>,
    pub after: Vec<Flow>,
    /// How the flow table that is being replaced is used, and its records before and after.
    pub migration: Migration,
    pub carried_before: Vec<Flow>,
    pub carried_after: Vec<Flow>,
    /// Flow records that the programs insert and remove, if the row tests that.
    pub entries: Option<(u64, u64)>,
    pub affinity_before: Vec<AffinityEntry>,
    pub affinity_after: Vec<AffinityEntry>,
    /// Open while the packets are processed.
    pub sockets: Vec<NodeSocket>,
    /// Client of the SNAT ports `snat0` and `snat1`, if it is not the first packet's sender.
    pub client: Option<&'static str>,
    pub has_snat_addresses: bool,
    /// Flags of every interface beside its own.
    pub interfaces: IfaceFlags,
    /// `--service-cidr`: the range that contains `vip`.
    pub has_service_cidr: bool,
    /// Load-balancer pools with `vip`, `unallocated` and the network of `node`.
    pub has_pools: bool,
    /// The only family it runs for, and why not the other.
    pub why_one_family: Option<(super::place::Family, &'static str)>,
}

pub fn row(name: &'static str) -> Row {
    Row {
        name,
        services: Vec::new(),
        before: Vec::new(),
        tracked: Vec::new(),
        steps: Vec::new(),
        after: Vec::new(),
        migration: Migration::NONE,
        carried_before: Vec::new(),
        carried_after: Vec::new(),
        entries: None,
        affinity_before: Vec::new(),
        affinity_after: Vec::new(),
        sockets: Vec::new(),
        client: None,
        has_snat_addresses: true,
        interfaces: IfaceFlags::NONE,
        has_service_cidr: false,
        has_pools: false,
        why_one_family: None,
    }
}

impl Row {
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    pub fn with_flow(mut self, flow: Flow) -> Self {
        self.before.push(flow);
        self
    }

    pub fn tracked(mut self, flow: Flow) -> Self {
        self.tracked.push(flow);
        self
    }

    pub fn sees(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub fn expects_flow(mut self, flow: Flow) -> Self {
        self.after.push(flow);
        self
    }

    pub fn with_flows(mut self, flows: impl Iterator<Item = Flow>) -> Self {
        self.before.extend(flows);
        self
    }

    pub fn expects_flows(mut self, flows: impl Iterator<Item = Flow>) -> Self {
        self.after.extend(flows);
        self
    }

    /// A flow table is being replaced.
    pub fn migrates(self, migration: Migration) -> Self {
        Self { migration, ..self }
    }

    /// The table that is being replaced has this flow.
    pub fn with_carried_flow(mut self, flow: Flow) -> Self {
        self.carried_before.push(flow);
        self
    }

    /// The table that is being replaced has this flow at the end.
    pub fn expects_carried_flow(mut self, flow: Flow) -> Self {
        self.carried_after.push(flow);
        self
    }

    /// That many flow records are inserted and removed.
    pub fn inserts_and_removes(self, made: u64, removed: u64) -> Self {
        Self { entries: Some((made, removed)), ..self }
    }

    pub fn with_affinity(mut self, entry: AffinityEntry) -> Self {
        self.affinity_before.push(entry);
        self
    }

    pub fn expects_affinity(mut self, entry: AffinityEntry) -> Self {
        self.affinity_after.push(entry);
        self
    }

    /// The node has a socket at this address, connected to that peer.
    pub fn node_socket(mut self, own: &'static str, peer: Option<&'static str>) -> Self {
        self.sockets.push(NodeSocket { own, peer });
        self
    }

    pub fn client(self, client: &'static str) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Every interface has these flags.
    pub fn interfaces_are(self, flags: IfaceFlags) -> Self {
        Self { interfaces: flags, ..self }
    }

    pub fn without_snat_addresses(self) -> Self {
        Self { has_snat_addresses: false, ..self }
    }

    pub fn with_service_cidr(self) -> Self {
        Self { has_service_cidr: true, ..self }
    }

    pub fn with_pools(self) -> Self {
        Self { has_pools: true, ..self }
    }

    pub fn only(self, family: super::place::Family, why: &'static str) -> Self {
        Self { why_one_family: Some((family, why)), ..self }
    }

    /// The transports of the row's packets.
    pub fn transports(&self) -> Vec<L4> {
        let has = |l4| self.steps.iter().any(|step| step.packet.protocol() == l4);
        match (has(L4::Either), has(L4::Udp), has(L4::Sctp)) {
            (true, ..) => vec![L4::Tcp, L4::Udp],
            (false, true, _) => vec![L4::Udp],
            (false, false, true) => vec![L4::Sctp],
            (false, false, false) => vec![L4::Tcp],
        }
    }
}
