//! The answer: what may become of a packet, given what Kubernetes says and what has been seen before.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::endpoints::{Place, Target, listed, serving};
use super::ground::{self, Route};
use super::memory::{BackAt, Flow, Life, Memory, Side, Stay, Time, Way};
use super::packet::Packet;
use super::verdict::{Client, Frontend, Kind, Nobodys, Verdict, frontend, nobodys, verdict};
use super::world::{Proto, Tuple, World};
use crate::packet::row::Problem;

/// Where a packet is seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seen {
    /// It came by this interface.
    Arriving(&'static str),
    /// It is about to leave by it.
    Leaving(&'static str),
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    Untouched,
    /// Dropped as it is.
    Dropped,
    /// Answered by an ICMP error from this address.
    Refused {
        from: IpAddr,
        problem: Problem,
    },
    Goes {
        as_: Tuple,
        exit: Exit,
    },
}

/// By which way a translated packet goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    Stack,
    Back,
    Hop(Route),
}

/// A fate that the rules allow.
#[derive(Clone, Debug)]
pub struct Possible {
    pub fate: Fate,
    /// The counters that say so.
    pub counts: Vec<&'static str>,
    pub then: Then,
}

/// What is to be remembered of it.
#[derive(Clone, Debug)]
pub enum Then {
    Nothing,
    Touch(usize, Side),
    Begin(Box<Flow>, Option<Stay>),
    Forget(usize),
}

fn possible(fate: Fate, counts: &[&'static str], then: Then) -> Possible {
    Possible { fate, counts: counts.to_vec(), then }
}

fn untouched() -> Possible {
    possible(Fate::Untouched, &[], Then::Nothing)
}

pub struct Model {
    pub world: World,
    pub memory: Memory,
    pub now: Time,
    /// Source ports of masquerade.
    pub snat_ports: Range<u16>,
    /// So many errors have been sent lately that more may be withheld.
    pub is_limited: bool,
}

impl Model {
    /// Everything that may become of a packet.
    pub fn judge(&self, packet: &Packet, seen: Seen) -> Vec<Possible> {
        match (packet.tuple.proto, seen) {
            (Proto::Sctp | Proto::Icmp, Seen::Arriving(interface)) if !packet.shape.is_stray => {
                self.to_nobody(packet, interface)
            }
            (Proto::Sctp | Proto::Icmp, _) => vec![untouched()],
            (_, Seen::Arriving(interface)) => self.arriving(packet, interface),
            (_, Seen::Leaving(interface)) => self.leaving(packet, interface),
        }
    }

    /// Remembers what became of it.
    pub fn learn(&mut self, packet: &Packet, then: Then) {
        let (flags, now) = (packet.shape.flags, self.now);
        match then {
            Then::Nothing => {}
            Then::Touch(flow, side) => self.memory.flows[flow].touch(side, flags, now),
            Then::Forget(flow) => self.memory.forget(flow),
            Then::Begin(mut flow, stay) => {
                flow.begin(flags, now);
                self.memory.begin(*flow);
                stay.into_iter().for_each(|stay| self.memory.stay(stay));
            }
        }
    }

    /// Kubernetes says something else. Datagram flows to what does not serve any more end (SEM-124), clients do not stay
    /// with what is no endpoint any more (SEM-233).
    pub fn change(&mut self, world: World) {
        let broken = self.world.broken;
        self.world = World { broken, ..world };
        for i in 0..self.memory.flows.len() {
            let Flow { client, backend, owns_client, .. } = self.memory.flows[i];
            if owns_client && client.proto == Proto::Udp && self.is_stale(client.dst, backend.dst)
                || !self.world.holds("SEM-120")
            {
                self.memory.forget(i);
            }
        }
        let world = &self.world;
        self.memory.stays.retain(|stay| {
            if !world.holds("SEM-235") {
                return true;
            }
            let ports = world.services.iter().filter(|s| s.affinity.is_some());
            let mut ports = ports.flat_map(|s| s.ports.iter().map(move |p| (s, p)));
            ports.any(|(service, port)| {
                let is_v4 = stay.client.is_ipv4();
                service_port(&service.name, port.name, port.proto) == stay.service_port
                    && listed(world, service, port, is_v4).contains(&stay.backend)
            })
        });
    }

    fn is_stale(&self, dialled: SocketAddr, backend: SocketAddr) -> bool {
        let Some(Frontend { service, port, .. }) = frontend(&self.world, dialled, Proto::Udp) else {
            return false;
        };
        let serving = serving(&self.world, service, port, dialled.is_ipv4());
        let is_kept = serving.contains(&backend) && self.world.holds("SEM-127");
        self.world.holds("SEM-124") && !serving.is_empty() && !is_kept
    }

    fn leaving(&self, packet: &Packet, interface: &'static str) -> Vec<Possible> {
        let at = if ground::is_pod(interface) { BackAt::PodEgress } else { BackAt::UplinkEgress };
        let Some(i) = self.memory.of_backend(packet.tuple, at) else { return vec![untouched()] };
        let flow = &self.memory.flows[i];
        let goes = possible(
            Fate::Goes { as_: flow.client.swapped(), exit: Exit::Stack },
            &[],
            Then::Touch(i, Side::Backend),
        );
        match flow.life(self.now) {
            Life::Live => vec![goes],
            Life::Over if packet.tuple.proto == Proto::Udp => vec![untouched()],
            // Nobody sweeps in between: a connection that is over may still be answered.
            Life::Over | Life::Unsure => vec![goes, untouched()],
        }
    }

    fn arriving(&self, packet: &Packet, interface: &'static str) -> Vec<Possible> {
        let mut all = match self.known(packet) {
            Some((i, side)) => {
                let flow = &self.memory.flows[i];
                let goes_on = || self.goes_on(packet, interface, flow, side, &Then::Touch(i, side));
                match self.gives_way(flow, packet) {
                    Life::Live => goes_on(),
                    Life::Over => self.new_flow(packet, interface),
                    Life::Unsure => [goes_on(), self.new_flow(packet, interface)].concat(),
                }
            }
            None => self.new_flow(packet, interface),
        };
        // Somebody else's frame is nobody's business, but XDP sees that only when a flow begins.
        if packet.shape.is_stray && !ground::is_pod(interface) {
            all.retain(|p| matches!(p.then, Then::Touch(..)));
            all.push(untouched());
        }
        all
    }

    fn known(&self, packet: &Packet) -> Option<(usize, Side)> {
        let client = self.memory.of_client(packet.tuple).map(|i| (i, Side::Client));
        client.or_else(|| self.memory.of_backend(packet.tuple, BackAt::Ingress).map(|i| (i, Side::Backend)))
    }

    /// Whether a packet of a known flow belongs to it, or begins another.
    fn gives_way(&self, flow: &Flow, packet: &Packet) -> Life {
        match (packet.tuple.proto, packet.is_syn()) {
            _ if !self.world.holds("SEM-123") => Life::Live,
            (Proto::Tcp, true) => flow.is_closing().either(flow.life(self.now)),
            // A segment in the middle of what is over: the tracker may have forgotten it.
            (Proto::Tcp, false) if flow.life(self.now) == Life::Over => Life::Unsure,
            _ => flow.life(self.now),
        }
    }

    /// A packet of a flow, from either side.
    fn goes_on(
        &self,
        packet: &Packet,
        interface: &'static str,
        flow: &Flow,
        side: Side,
        then: &Then,
    ) -> Vec<Possible> {
        let as_ = if side == Side::Client { flow.backend } else { flow.client.swapped() };
        let goes = |exit| vec![possible(Fate::Goes { as_, exit }, &[], then.clone())];
        let route = match flow.way {
            Way::Stack => return goes(Exit::Stack),
            Way::Back => return goes(Exit::Back),
            Way::Redirect => ground::route(as_.dst.ip()),
        };
        let Some(route) = route else {
            return vec![possible(Fate::Dropped, &["drop_no_route"], then.clone())];
        };
        let mut fates = Vec::new();
        // The kernel tells how much fits only together with the neighbour.
        if route.mac.is_some() && packet.size() > route.mtu {
            let problem = Problem::TooBig(route.mtu as u16);
            fates.extend(self.refuse(packet, interface, problem, "reject_too_big", then));
        }
        if packet.shape.ttl <= 1 {
            fates.push(possible(Fate::Dropped, &["drop_ttl"], then.clone()));
        }
        if fates.is_empty() { goes(Exit::Hop(route)) } else { fates }
    }

    /// An ICMP error from the address that was dialled if it is the node's, else from the node's own (SEM-092).
    fn refuse(
        &self,
        packet: &Packet,
        interface: &'static str,
        problem: Problem,
        label: &'static str,
        then: &Then,
    ) -> Vec<Possible> {
        let dialled = packet.tuple.dst.ip();
        let own = ground::own(interface, dialled.is_ipv4()).filter(|_| self.world.has_pod_addresses);
        let is_own = ground::is_node(dialled) || !self.world.holds("SEM-092");
        let from = if is_own { dialled } else { own.unwrap_or(dialled) };
        // A message that cannot be quoted is not sent.
        let mut fates = vec![match packet.shape.has_options {
            true => possible(Fate::Dropped, &["drop_rewrite"], then.clone()),
            false => possible(Fate::Refused { from, problem }, &[label], then.clone()),
        }];
        if self.is_limited {
            fates.push(possible(Fate::Dropped, &["reject_limited"], then.clone()));
        }
        fates
    }

    fn new_flow(&self, packet: &Packet, interface: &'static str) -> Vec<Possible> {
        let Tuple { proto, src, dst } = packet.tuple;
        let Some(found) = frontend(&self.world, dst, proto) else { return self.to_nobody(packet, interface) };
        let is_pod = ground::is_pod(interface) && self.world.settings.knows_pods;
        let client = if is_pod { Client::Pod } else { Client::Outside };
        match verdict(&self.world, &found, client, src.ip()) {
            Verdict::Drop(label) => vec![possible(Fate::Dropped, &[label], Then::Nothing)],
            Verdict::Reject => {
                self.refuse(packet, interface, Problem::PortUnreachable, "reject_no_endpoint", &Then::Nothing)
            }
            Verdict::Pick { from, masquerade } => {
                let kept = self.kept(&found, src.ip(), &from);
                let chosen = |target: &&Target| match kept {
                    Some((backend, Life::Live)) => (target.at == backend) == self.world.holds("SEM-231"),
                    _ => true,
                };
                let begin = |target| self.begin(packet, interface, &found, target, masquerade);
                from.iter().filter(chosen).flat_map(begin).collect()
            }
        }
    }

    /// The backend that a client stays with, if it may be chosen.
    fn kept(&self, found: &Frontend<'_>, client: IpAddr, from: &[Target]) -> Option<(SocketAddr, Life)> {
        found.service.affinity?;
        let name = service_port(&found.service.name, found.port.name, found.port.proto);
        let stay = self.memory.stays.iter().find(|s| s.service_port == name && s.client == client)?;
        if !from.iter().any(|t| t.at == stay.backend) && self.world.holds("SEM-233") {
            return None;
        }
        match self.now - stay.until {
            ..0 => Some((stay.backend, Life::Live)),
            0..300 => Some((stay.backend, Life::Unsure)),
            _ => None,
        }
    }

    /// A destination that is no frontend.
    fn to_nobody(&self, packet: &Packet, interface: &'static str) -> Vec<Possible> {
        let has_ports = matches!(packet.tuple.proto, Proto::Tcp | Proto::Udp);
        match nobodys(&self.world, packet.tuple.dst.ip()).filter(|_| has_ports || self.world.holds("SEM-095"))
        {
            None => vec![self.direct(packet)],
            Some(Nobodys::Address) => vec![possible(Fate::Dropped, &["drop_unallocated"], Then::Nothing)],
            Some(Nobodys::Port) => self.refuse(
                packet,
                interface,
                Problem::PortUnreachable,
                "reject_unknown_port",
                &Then::Nothing,
            ),
        }
    }

    /// Nobody's address: a new direct connection makes a translated flow with the same tuple to the backend give way.
    fn direct(&self, packet: &Packet) -> Possible {
        let may_begin = packet.is_syn() || packet.tuple.proto == Proto::Udp;
        let may_begin = may_begin && self.world.holds("SEM-108");
        let is_same = |f: &Flow| f.owns_backend && f.is_answer(packet.tuple.swapped());
        match self.memory.flows.iter().position(|f| may_begin && is_same(f)) {
            Some(i) => possible(Fate::Untouched, &["flow_gave_way"], Then::Forget(i)),
            None => untouched(),
        }
    }

    /// A flow to one backend: where it is translated, and what the backend sees.
    fn begin(
        &self,
        packet: &Packet,
        interface: &'static str,
        found: &Frontend<'_>,
        target: &Target,
        masquerade: bool,
    ) -> Vec<Possible> {
        let Tuple { proto, src, .. } = packet.tuple;
        let is_pod = ground::is_pod(interface);
        let is_bridged = ground::is_bridged(interface);
        let is_itself = is_pod && src.ip() == target.at.ip() && self.world.holds("SEM-084");
        let route = ground::route(target.at.ip());
        let drop = |label| vec![possible(Fate::Dropped, &[label], Then::Nothing)];
        let is_masked = match target.place {
            // It never leaves.
            Place::Host => masquerade && !self.world.holds("SEM-086"),
            Place::Local => masquerade && self.world.settings.masquerade_to_local,
            Place::Remote => masquerade,
        };
        if is_masked && !is_itself {
            if !ground::forwards(interface) {
                return drop("drop_forwarding_off");
            }
            if route.is_none() {
                return drop("drop_no_route");
            }
        }
        let is_neighbour = is_bridged && route.is_some_and(|r| r.interface == "cni0");
        let (way, back_at) = match target.place {
            Place::Local | Place::Remote if is_itself => (Way::Back, BackAt::Ingress),
            Place::Local | Place::Remote if is_masked || is_neighbour => (Way::Redirect, BackAt::Ingress),
            Place::Host | Place::Local | Place::Remote if is_pod => (Way::Stack, BackAt::PodEgress),
            Place::Host | Place::Local | Place::Remote => (Way::Stack, BackAt::UplinkEgress),
        };
        let is_masked = is_masked || way == Way::Back;
        let out = match way {
            Way::Back => Some(interface).filter(|_| self.world.has_pod_addresses),
            Way::Stack | Way::Redirect => route.map(|r| r.interface),
        };
        let source = match is_masked {
            false => Some(src.ip()),
            true => out.and_then(|out| ground::own(out, src.is_ipv4())),
        };
        let Some(source) = source else { return drop("drop_no_snat_address") };
        let is_midstream = proto == Proto::Tcp && !packet.is_syn();
        let label = if is_midstream { "flow_midstream" } else { "flow_new" };
        let stay = found.service.affinity.filter(|_| !is_midstream).map(|seconds| Stay {
            service_port: service_port(&found.service.name, found.port.name, proto),
            client: src.ip(),
            backend: target.at,
            // For so long after its last new flow, and no longer.
            until: self.now
                + Time::from(if self.world.holds("SEM-232") { seconds } else { 100 * seconds }) * 1_000,
        });
        let mut fates = Vec::new();
        let ports = self.source_ports(packet.tuple, source, target.at, is_masked);
        if ports.may_fail {
            fates.extend(drop("drop_snat_exhausted"));
        }
        for port in ports.free {
            let backend = Tuple { proto, src: (source, port).into(), dst: target.at };
            let mut flow = Flow::new(packet.tuple, backend, way, back_at);
            flow.any_source = target.place == Place::Host && proto == Proto::Udp;
            let then = Then::Begin(Box::new(flow.clone()), stay.clone());
            for mut fate in self.goes_on(packet, interface, &flow, Side::Client, &then) {
                fate.counts.push(label);
                fates.push(fate);
            }
        }
        fates
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
        let free: Vec<u16> = self.snat_ports.clone().filter(|port| taken(*port) != Life::Live).collect();
        // Sixteen are tried.
        let may_fail = self.snat_ports.clone().filter(|port| taken(*port) != Life::Over).count() >= 15;
        let own = (is_own_taken == Life::Unsure).then_some(own);
        SourcePorts { free: own.into_iter().chain(free).collect(), may_fail }
    }
}

struct SourcePorts {
    free: Vec<u16>,
    may_fail: bool,
}

/// The identity of a service port (SEM-007).
fn service_port(service: &str, port: &str, proto: Proto) -> String {
    format!("{service}:{port}/{proto:?}")
}

/// A destination that clients find served, for those who make packets.
pub fn is_frontend(world: &World, dst: SocketAddr, proto: Proto) -> Option<Kind> {
    frontend(world, dst, proto).map(|f| f.kind)
}
