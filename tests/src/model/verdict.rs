//! Frontends (SEM-011 to SEM-027) and the verdict on a new connection to them, in the order of docs/semantics.md.

use std::net::{IpAddr, SocketAddr};

use super::endpoints::{Target, has_local_policy, lists};
use super::network;
use super::world::{NodePorts, Port, Proto, Service, World};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    ClusterIp,
    NodePort,
    ExternalIp,
    LoadBalancer,
}

/// The dialled frontend.
#[derive(Clone, Copy, Debug)]
pub struct Frontend<'a> {
    pub service: &'a Service,
    pub port: &'a Port,
    pub kind: Kind,
}

/// The client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// A pod of this node: the packet came by a pod's interface (SEM-090).
    Pod,
    Outside,
}

#[derive(Clone, Debug)]
pub enum Verdict {
    /// Dropped, with the counter of the reason.
    Drop(&'static str),
    Reject,
    /// Forwarded to one of these; says whether a remote one sees an address of this node.
    Pick {
        from: Vec<Target>,
        masquerade: bool,
    },
}

/// The frontend of a destination: addresses of Services before NodePorts (SEM-024).
pub fn frontend<'a>(world: &'a World, dst: SocketAddr, proto: Proto) -> Option<Frontend<'a>> {
    if proto == Proto::Sctp && !world.holds("SEM-010") {
        return None;
    }
    let (ip, number) = (dst.ip(), dst.port());
    let ports = || {
        let all = world.services.iter().filter(|s| s.cluster_ips.iter().any(|c| same_family(*c, ip)));
        all.flat_map(|s| s.ports.iter().map(move |p| (s, p)))
            .filter(|(_, p)| p.proto == proto || !world.holds("SEM-027"))
    };
    let address_of = |s: &Service| {
        let load_balancer =
            s.ingress.iter().any(|i| i.ip == ip && (i.mode != Some("Proxy") || !world.holds("SEM-013")));
        match () {
            () if s.cluster_ips.contains(&ip) => Some(Kind::ClusterIp),
            () if s.external_ips.contains(&ip) && world.holds("SEM-012") => Some(Kind::ExternalIp),
            () if load_balancer => Some(Kind::LoadBalancer),
            () => None,
        }
    };
    let by_address = ports()
        .filter(|(_, p)| p.port == number)
        .find_map(|(service, port)| address_of(service).map(|kind| Frontend { service, port, kind }));
    by_address.or_else(|| {
        let found = ports().find(|(_, p)| p.node_port == Some(number) && accepts_node_ports(world, ip));
        found.map(|(service, port)| Frontend { service, port, kind: Kind::NodePort })
    })
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

fn accepts_node_ports(world: &World, ip: IpAddr) -> bool {
    match world.node_ports {
        NodePorts::All => network::is_node(ip),
        NodePorts::Primary if !world.holds("SEM-021") => network::is_node(ip),
        NodePorts::Primary => network::quad(ip) == network::NODE[0],
    }
}

/// The table of docs/semantics.md, "The verdict on a new connection"; the first row that matches.
pub fn verdict(world: &World, frontend: &Frontend<'_>, client: Client, source: IpAddr) -> Verdict {
    let Frontend { service, port, kind } = *frontend;
    let lists = lists(world, service, port, source.is_ipv4());
    let pick = |from: Vec<Target>, masquerade| match from.is_empty() {
        true => Verdict::Drop("drop_no_local_endpoint"),
        false => Verdict::Pick { from, masquerade },
    };
    // Source ranges.
    if kind == Kind::LoadBalancer && !is_allowed(service, source) && world.holds("SEM-030") {
        return Verdict::Drop("drop_source_range");
    }
    // Not usable anywhere.
    if !lists.any && world.holds("SEM-094") {
        return Verdict::Reject;
    }
    let is_external_local = kind != Kind::ClusterIp && has_local_policy(world, service);
    let settings = world.settings;
    let masks_at_cluster_ip = world.holds("SEM-081")
        && (settings.masquerade_all || (settings.knows_pods && client == Client::Outside));
    match (kind, client) {
        // Internal policy.
        (Kind::ClusterIp, _) if service.internal_local => pick(lists.local, masks_at_cluster_ip),
        (Kind::ClusterIp, _) => pick(lists.cluster, masks_at_cluster_ip),
        // External policy Local does not restrict a local pod.
        (_, Client::Pod) if is_external_local && world.holds("SEM-090") => pick(lists.cluster, false),
        // External policy Local: clients from elsewhere.
        (_, Client::Outside | Client::Pod) if is_external_local => pick(lists.local, false),
        // External policy Cluster, and this node's own traffic.
        _ => pick(lists.cluster, world.holds("SEM-083")),
    }
}

/// The source ranges of the family, if any (SEM-030). If this node is in one, the address itself is allowed as a
/// source (SEM-032).
fn is_allowed(service: &Service, source: IpAddr) -> bool {
    let ranges: Vec<_> = service.source_ranges.iter().filter(|(net, _)| same_family(*net, source)).collect();
    let holds = |addr: IpAddr| ranges.iter().any(|(net, bits)| has_prefix(addr, *net, *bits));
    let is_itself = service.ingress.iter().any(|i| i.ip == source);
    ranges.is_empty()
        || holds(source)
        || (is_itself && holds(network::at(network::NODE[0], source.is_ipv4())))
}

/// Why a destination without a frontend is refused or dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WithoutFrontend {
    /// The Service of the address does not have this port or protocol.
    Port,
    /// An unallocated address of the Service CIDR.
    Address,
}

/// Applies to every protocol (SEM-095, SEM-096). The node itself answers at its own addresses.
pub fn without_frontend(world: &World, dst: IpAddr) -> Option<WithoutFrontend> {
    match () {
        () if network::is_node(dst) => None,
        () if world.services.iter().any(|s| s.cluster_ips.contains(&dst)) => Some(WithoutFrontend::Port),
        () if world.settings.has_service_cidr && network::is_cluster_ip(dst) => {
            Some(WithoutFrontend::Address)
        }
        () => None,
    }
}

/// Some Service has the address.
pub fn has_address(world: &World, addr: IpAddr) -> bool {
    world.services.iter().any(|service| {
        let balanced = service.ingress.iter().filter(|i| i.mode != Some("Proxy")).map(|i| i.ip);
        let mut all = service.cluster_ips.iter().chain(&service.external_ips).copied().chain(balanced);
        all.any(|ip| ip == addr)
    })
}

fn has_prefix(addr: IpAddr, net: IpAddr, bits: u8) -> bool {
    let words = |a: IpAddr| match a {
        IpAddr::V4(a) => u128::from(u32::from(a)) << 96,
        IpAddr::V6(a) => u128::from(a),
    };
    bits == 0 || (words(addr) ^ words(net)) >> (128 - u32::from(bits)) == 0
}
