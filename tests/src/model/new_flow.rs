//! The model of a flow's first packet: the possible backends, the place of translation, and the source that the
//! backend sees.

use std::net::{IpAddr, SocketAddr};

use super::endpoints::{Place, Target};
use super::memory::{AffinityEntry, Direction, ExitKind, Flow, Life, ReplyHook, Time};
use super::network;
use super::oracle::{Model, PacketOutcome, Possible, Then, possible, service_port, untouched};
use super::packet::Packet;
use super::verdict::{Client, Frontend, Kind, Verdict, frontend, verdict};
use super::world::{Proto, Tuple};
use crate::packet::row::Problem;

impl Model {
    pub(super) fn new_flow(&self, packet: &Packet, interface: &'static str) -> Vec<Possible> {
        let Tuple { proto, src, dst } = packet.tuple;
        let Some(found) = frontend(&self.world, dst, proto) else {
            return self.without_frontend(packet, interface);
        };
        // Clients of Services do not accept connections, so a SYN-ACK answers a connection of the node itself.
        if packet.is_syn_ack() && found.kind != Kind::ClusterIp && network::is_node(dst.ip()) {
            return vec![untouched()];
        }
        let is_pod = network::is_pod(interface) && self.world.settings.knows_pods;
        let client = if is_pod { Client::Pod } else { Client::Outside };
        match verdict(&self.world, &found, client, src.ip()) {
            Verdict::Drop(label) => vec![possible(PacketOutcome::Dropped, &[label], Then::Nothing)],
            Verdict::Reject => {
                self.refuse(packet, interface, Problem::PortUnreachable, "reject_no_endpoint", &Then::Nothing)
            }
            Verdict::Pick { from, masquerade } => {
                let sticky = self.sticky_backend(&found, src.ip(), &from);
                let chosen = |target: &&Target| match sticky {
                    Some((backend, Life::Live)) => (target.at == backend) == self.world.holds("SEM-231"),
                    _ => true,
                };
                let begin = |target| self.begin(packet, interface, &found, target, masquerade);
                from.iter().filter(chosen).flat_map(begin).collect()
            }
        }
    }

    /// The client's backend by session affinity, if it may still be selected.
    fn sticky_backend(
        &self,
        found: &Frontend<'_>,
        client: IpAddr,
        from: &[Target],
    ) -> Option<(SocketAddr, Life)> {
        found.service.affinity?;
        let name = service_port(&found.service.name, found.port.name, found.port.proto);
        let entry = self.memory.affinity.iter().find(|s| s.service_port == name && s.client == client)?;
        if !from.iter().any(|t| t.at == entry.backend) && self.world.holds("SEM-233") {
            return None;
        }
        match self.now - entry.until {
            ..0 => Some((entry.backend, Life::Live)),
            0..300 => Some((entry.backend, Life::Unsure)),
            _ => None,
        }
    }

    /// A flow to one backend: its place of translation, and the source that the backend sees.
    fn begin(
        &self,
        packet: &Packet,
        interface: &'static str,
        found: &Frontend<'_>,
        target: &Target,
        masquerade: bool,
    ) -> Vec<Possible> {
        let Tuple { proto, src, .. } = packet.tuple;
        let is_pod = network::is_pod(interface);
        let is_bridged = network::is_bridged(interface);
        let is_itself = is_pod && src.ip() == target.at.ip() && self.world.holds("SEM-084");
        let route = network::route(target.at.ip());
        let drop = |label| vec![possible(PacketOutcome::Dropped, &[label], Then::Nothing)];
        let is_masked = match target.place {
            // The packet does not leave the node.
            Place::Host => masquerade && !self.world.holds("SEM-086"),
            Place::Local => masquerade && self.world.settings.masquerade_to_local,
            Place::Remote => masquerade,
        };
        if is_masked && !is_itself {
            if !network::forwards(interface) {
                return drop("drop_forwarding_off");
            }
            if route.is_none() {
                return drop("drop_no_route");
            }
        }
        let is_on_bridge = is_bridged && route.is_some_and(|r| r.interface == "cni0");
        let (exit, reply_hook) = match target.place {
            Place::Local | Place::Remote if is_itself => (ExitKind::Hairpin, ReplyHook::Ingress),
            Place::Local | Place::Remote if is_masked || is_on_bridge => {
                (ExitKind::Redirect, ReplyHook::Ingress)
            }
            Place::Host | Place::Local | Place::Remote if is_pod => (ExitKind::Stack, ReplyHook::PodEgress),
            Place::Host | Place::Local | Place::Remote => (ExitKind::Stack, ReplyHook::UplinkEgress),
        };
        let is_masked = is_masked || exit == ExitKind::Hairpin;
        let out = match exit {
            ExitKind::Hairpin => Some(interface).filter(|_| self.world.has_pod_addresses),
            ExitKind::Stack | ExitKind::Redirect => route.map(|r| r.interface),
        };
        let source = match is_masked {
            false => Some(src.ip()),
            true => out.and_then(|out| network::own(out, src.is_ipv4())),
        };
        let Some(source) = source else { return drop("drop_no_snat_address") };
        let is_midstream = proto == Proto::Tcp && !packet.is_syn();
        let label = if is_midstream { "flow_midstream" } else { "flow_new" };
        let entry = found.service.affinity.filter(|_| !is_midstream).map(|seconds| AffinityEntry {
            service_port: service_port(&found.service.name, found.port.name, proto),
            client: src.ip(),
            backend: target.at,
            // The timeout counts from the last new flow.
            until: self.now
                + Time::from(if self.world.holds("SEM-232") { seconds } else { 100 * seconds }) * 1_000,
        });
        let ports = self.source_ports(packet.tuple, source, target.at, is_masked);
        self.begin_by_any_port(packet, interface, ports, (label, entry), |port| {
            let backend = Tuple { proto, src: (source, port).into(), dst: target.at };
            let mut flow = Flow::new(packet.tuple, backend, exit, reply_hook);
            flow.wildcard_source = target.place == Place::Host && proto == Proto::Udp;
            flow
        })
    }

    /// The outcomes of a new flow, one for each source port. If every port may be taken, the packet may also be dropped.
    fn begin_by_any_port(
        &self,
        packet: &Packet,
        interface: &'static str,
        ports: SourcePorts,
        (label, entry): (&'static str, Option<AffinityEntry>),
        flow_by: impl Fn(u16) -> Flow,
    ) -> Vec<Possible> {
        let exhausted = || possible(PacketOutcome::Dropped, &["drop_snat_exhausted"], Then::Nothing);
        let begun = ports.free.into_iter().flat_map(|port| {
            let flow = flow_by(port);
            let then = Then::Begin(Box::new(flow.clone()), entry.clone());
            let mut outcomes = self.known_flow(packet, interface, &flow, Direction::Forward, &then);
            outcomes.iter_mut().for_each(|outcome| outcome.counts.push(label));
            outcomes
        });
        ports.may_fail.then(exhausted).into_iter().chain(begun).collect()
    }

    /// The client of the flow `like` dials that flow's backend directly, from the same port.
    pub(super) fn begin_direct(
        &self,
        packet: &Packet,
        interface: &'static str,
        like: &Flow,
    ) -> Vec<Possible> {
        let Tuple { proto, src, dst } = packet.tuple;
        let ports = self.source_ports(packet.tuple, src.ip(), dst, true);
        self.begin_by_any_port(packet, interface, ports, ("flow_direct", None), |port| {
            let backend = Tuple { proto, src: (src.ip(), port).into(), dst };
            let mut flow = Flow::new(packet.tuple, backend, like.exit, like.reply_hook);
            flow.wildcard_source = like.wildcard_source;
            flow
        })
    }

    /// The ports that the backend may see: the client's own unless masqueraded or taken, then any free one (SEM-080).
    fn source_ports(&self, client: Tuple, source: IpAddr, target: SocketAddr, masked: bool) -> SourcePorts {
        let taken = |port: u16| {
            let backend = Tuple { proto: client.proto, src: (source, port).into(), dst: target };
            self.memory.is_taken(client, backend, self.now)
        };
        let own = client.src.port();
        let is_own_taken = if masked { Life::Live } else { taken(own) };
        if is_own_taken == Life::Over || !(masked || self.world.holds("SEM-080")) {
            return SourcePorts { free: vec![own], may_fail: false };
        }
        let mut free: Vec<u16> = self.snat_ports.clone().filter(|port| taken(*port) != Life::Live).collect();
        let mut may_fail = self.snat_ports.clone().all(|port| taken(port) != Life::Over);
        if may_fail {
            let gives = |port: u16| {
                let backend = Tuple { proto: client.proto, src: (source, port).into(), dst: target };
                self.memory.gives_port(backend, self.now)
            };
            may_fail = self.snat_ports.clone().all(|port| gives(port) != Life::Over);
            let given: Vec<u16> = self
                .snat_ports
                .clone()
                .filter(|port| !free.contains(port) && gives(*port) != Life::Live)
                .collect();
            free.extend(given);
        }
        let own = (is_own_taken == Life::Unsure).then_some(own);
        SourcePorts { free: own.into_iter().chain(free).collect(), may_fail }
    }
}

struct SourcePorts {
    free: Vec<u16>,
    may_fail: bool,
}
