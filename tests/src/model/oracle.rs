//! The possible results for a packet, given Kubernetes' objects and earlier packets.

use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::endpoints::{listed, serving};
use super::memory::{AffinityEntry, Direction, ExitKind, FirstFragment, Flow, Life, Memory, ReplyHook, Time};
use super::network::{self, Route};
use super::packet::{ACK, Packet, RST};
use super::verdict::{Frontend, Kind, WithoutFrontend, frontend, has_address, without_frontend};
use super::world::{Proto, Tuple, World};
use crate::packet::row::Problem;

/// Hook at which a packet is seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seen {
    /// It arrived by this interface.
    Arriving(&'static str),
    /// It is about to leave by this interface.
    Leaving(&'static str),
}

/// Result for a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketOutcome {
    Untouched,
    /// Dropped.
    Dropped,
    /// Answered with an ICMP error from this address.
    Refused {
        from: IpAddr,
        problem: Problem,
    },
    /// Forwarded with this tuple; an ICMP error also has this quoted tuple.
    Goes {
        as_: Tuple,
        quoted: Option<Tuple>,
        exit: Exit,
    },
}

/// How a translated packet leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    Stack,
    Hairpin,
    Hop(Route),
}

/// A result that the rules allow.
#[derive(Clone, Debug)]
pub struct Possible {
    pub outcome: PacketOutcome,
    /// The counters that must be incremented.
    pub counts: Vec<&'static str>,
    pub then: Then,
}

/// Change of the model's memory.
#[derive(Clone, Debug)]
pub enum Then {
    Nothing,
    Touch(usize, Direction),
    Begin(Box<Flow>, Option<AffinityEntry>),
    Forget(usize),
}

pub(super) fn possible(outcome: PacketOutcome, counts: &[&'static str], then: Then) -> Possible {
    Possible { outcome, counts: counts.to_vec(), then }
}

pub(super) fn untouched() -> Possible {
    possible(PacketOutcome::Untouched, &[], Then::Nothing)
}

pub struct Model {
    pub world: World,
    pub memory: Memory,
    pub now: Time,
    /// Source ports of masquerade.
    pub snat_ports: Range<u16>,
    /// The limit of errors per tick may be reached, so that an error may be missing.
    pub is_limited: bool,
}

impl Model {
    /// All allowed results for a packet.
    pub fn judge(&self, packet: &Packet, seen: Seen) -> Vec<Possible> {
        let comes_by_uplink = matches!(seen, Seen::Arriving(interface) if !network::is_pod(interface));
        let is_rare = packet.quotes.is_some() || !packet.has_ports();
        if is_rare && packet.shape.is_stray && comes_by_uplink {
            return vec![untouched()];
        }
        if let Some(quote) = &packet.quotes {
            return self.icmp_error(packet, quote, seen);
        }
        if is_rare {
            return self.later_fragment(packet, seen);
        }
        match (packet.tuple.proto, seen) {
            _ if packet.is_cut_short() => vec![untouched()],
            (Proto::Icmp, Seen::Arriving(interface)) if !packet.shape.is_stray => {
                self.without_frontend(packet, interface)
            }
            (Proto::Icmp, _) => vec![untouched()],
            (_, Seen::Arriving(interface)) => self.arriving(packet, interface),
            (_, Seen::Leaving(interface)) => self.leaving(packet, interface),
        }
    }

    /// Updates the memory by a packet's result.
    pub fn learn(&mut self, packet: &Packet, then: Then) {
        let (flags, now) = (packet.shape.flags, self.now);
        // The first fragment of a flow's packet determines the path of the others.
        if let (Some(part), Then::Touch(..) | Then::Begin(..)) = (packet.shape.part, &then) {
            self.memory.fragments.push(FirstFragment { id: part.id, tuple: packet.tuple });
        }
        match then {
            Then::Nothing => {}
            Then::Touch(flow, direction) => {
                self.memory.flows[flow].touch(direction, flags, now);
                self.memory.restore(flow);
            }
            Then::Forget(flow) => self.memory.forget(flow),
            Then::Begin(mut flow, entry) => {
                flow.touch(Direction::Forward, flags, now);
                self.memory.begin(*flow, now);
                entry.into_iter().for_each(|entry| self.memory.remember_affinity(entry));
            }
        }
    }

    /// Applies a change of Kubernetes' objects. UDP flows to removed endpoints end (SEM-124), session affinity to
    /// removed endpoints ends (SEM-233). The same pass removes expired flows.
    pub fn change(&mut self, world: World) {
        let broken = self.world.broken;
        self.world = World { broken, ..world };
        for i in 0..self.memory.flows.len() {
            let flow = &self.memory.flows[i];
            let life = flow.life(self.now);
            let is_datagrams = flow.owns_client && flow.client.proto == Proto::Udp;
            let is_stale = is_datagrams && self.is_stale(flow.client.dst, flow.backend.dst);
            if life == Life::Over || !self.world.holds("SEM-120") {
                self.memory.forget(i);
            } else if is_stale {
                self.memory.end(i);
            } else if life == Life::Unsure {
                self.memory.flows[i].may_be_removed = true;
            }
        }
        let world = &self.world;
        self.memory.affinity.retain(|entry| {
            if !world.holds("SEM-235") {
                return true;
            }
            let ports = world.services.iter().filter(|s| s.affinity.is_some());
            let mut ports = ports.flat_map(|s| s.ports.iter().map(move |p| (s, p)));
            ports.any(|(service, port)| {
                let is_v4 = entry.client.is_ipv4();
                service_port(&service.name, port.name, port.proto) == entry.service_port
                    && listed(world, service, port, is_v4).contains(&entry.backend)
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
        let at = if network::is_pod(interface) { ReplyHook::PodEgress } else { ReplyHook::UplinkEgress };
        let Some(i) = self.memory.of_backend(packet.tuple, at) else {
            let Tuple { src, proto, .. } = packet.tuple;
            let is_from_masquerade = network::is_node(src.ip()) && self.snat_ports.contains(&src.port());
            let is_reset = proto == Proto::Tcp && packet.shape.flags & (RST | ACK) == RST;
            return if is_reset && is_from_masquerade {
                vec![possible(PacketOutcome::Dropped, &["drop_stray_reset"], Then::Nothing)]
            } else {
                vec![untouched()]
            };
        };
        let flow = &self.memory.flows[i];
        let goes = translated(packet, flow.client.swapped(), Exit::Stack, Then::Touch(i, Direction::Reverse));
        match flow.life(self.now) {
            Life::Live => vec![goes],
            Life::Over if packet.tuple.proto != Proto::Tcp => vec![untouched()],
            // The sweeper does not run in between, so an expired connection may still be answered.
            Life::Over | Life::Unsure => vec![goes, untouched()],
        }
    }

    fn arriving(&self, packet: &Packet, interface: &'static str) -> Vec<Possible> {
        let mut all = match self.find_flow(packet) {
            Some((i, direction)) => {
                let flow = &self.memory.flows[i];
                let known_flow =
                    || self.known_flow(packet, interface, flow, direction, &Then::Touch(i, direction));
                match self.begins_another(flow, direction, packet) {
                    Life::Live => known_flow(),
                    Life::Over => self.new_flow(packet, interface),
                    Life::Unsure => [known_flow(), self.new_flow(packet, interface)].concat(),
                }
            }
            None => self.new_flow(packet, interface),
        };
        // Frames for other machines are left alone, but XDP checks that only for new flows.
        if packet.shape.is_stray && !network::is_pod(interface) {
            all.retain(|p| matches!(p.then, Then::Touch(..)));
            all.push(untouched());
        }
        all
    }

    fn find_flow(&self, packet: &Packet) -> Option<(usize, Direction)> {
        let client = self.memory.of_client(packet.tuple).map(|i| (i, Direction::Forward));
        client.or_else(|| {
            self.memory.of_backend(packet.tuple, ReplyHook::Ingress).map(|i| (i, Direction::Reverse))
        })
    }

    /// Whether a packet with a known flow's tuple begins another flow.
    fn begins_another(&self, flow: &Flow, direction: Direction, packet: &Packet) -> Life {
        match (packet.tuple.proto, packet.is_syn() || direction == Direction::Reverse && packet.is_syn_ack())
        {
            _ if !self.world.holds("SEM-123") => Life::Live,
            (Proto::Tcp, true) => flow.holds_tuple(self.now),
            // A segment of an expired flow, whose record svc may have removed.
            (Proto::Tcp, false) if flow.life(self.now) == Life::Over => Life::Unsure,
            _ => flow.life(self.now),
        }
    }

    /// A packet of a flow, in either direction.
    pub(super) fn known_flow(
        &self,
        packet: &Packet,
        interface: &'static str,
        flow: &Flow,
        direction: Direction,
        then: &Then,
    ) -> Vec<Possible> {
        let as_ = if direction == Direction::Forward { flow.backend } else { flow.client.swapped() };
        let goes = |exit| vec![translated(packet, as_, exit, then.clone())];
        let route = match flow.exit {
            ExitKind::Stack => return goes(Exit::Stack),
            ExitKind::Hairpin => return goes(Exit::Hairpin),
            ExitKind::Redirect => network::route(as_.dst.ip()),
        };
        let Some(route) = route else {
            return vec![possible(PacketOutcome::Dropped, &["drop_no_route"], then.clone())];
        };
        let mut outcomes = Vec::new();
        // The kernel returns the MTU only together with the neighbor.
        if route.mac.is_some() && packet.size() > route.mtu {
            let problem = Problem::TooBig(route.mtu as u16);
            outcomes.extend(self.refuse(packet, interface, problem, "reject_too_big", then));
        }
        if packet.shape.ttl <= 1 {
            outcomes.extend(self.refuse(packet, interface, Problem::TimeExceeded, "reject_ttl", then));
        }
        if outcomes.is_empty() { goes(Exit::Hop(route)) } else { outcomes }
    }

    /// An ICMP error from the dialled address if it is the node's, else from the node's own (SEM-092).
    pub(super) fn refuse(
        &self,
        packet: &Packet,
        interface: &'static str,
        problem: Problem,
        label: &'static str,
        then: &Then,
    ) -> Vec<Possible> {
        let dialled = packet.tuple.dst.ip();
        let own = network::own(interface, dialled.is_ipv4()).filter(|_| self.world.has_pod_addresses);
        let is_own = network::is_node(dialled) || !self.world.holds("SEM-092");
        let from = if is_own { dialled } else { own.unwrap_or(dialled) };
        // No error is sent about a packet that cannot be quoted.
        let mut outcomes = vec![match packet.is_plain() {
            false => possible(PacketOutcome::Dropped, &["drop_rewrite"], then.clone()),
            true => possible(PacketOutcome::Refused { from, problem }, &[label], then.clone()),
        }];
        if self.is_limited {
            outcomes.push(possible(PacketOutcome::Dropped, &["reject_limited"], then.clone()));
        }
        outcomes
    }

    /// A packet whose destination is no frontend.
    pub(super) fn without_frontend(&self, packet: &Packet, interface: &'static str) -> Vec<Possible> {
        if self.is_unused_of_pool(packet, interface) {
            return vec![possible(PacketOutcome::Dropped, &["drop_unallocated"], Then::Nothing)];
        }
        let has_ports = packet.tuple.proto != Proto::Icmp;
        match without_frontend(&self.world, packet.tuple.dst.ip())
            .filter(|_| has_ports || self.world.holds("SEM-095"))
        {
            None => self.direct(packet, interface),
            Some(WithoutFrontend::Address) => {
                vec![possible(PacketOutcome::Dropped, &["drop_unallocated"], Then::Nothing)]
            }
            Some(WithoutFrontend::Port) => self.refuse(
                packet,
                interface,
                Problem::PortUnreachable,
                "reject_unknown_port",
                &Then::Nothing,
            ),
        }
    }

    /// The packet comes from outside, for an address of a pool that no Service has (SEM-315).
    pub(super) fn is_unused_of_pool(&self, packet: &Packet, interface: &str) -> bool {
        let dst = packet.tuple.dst.ip();
        self.world.settings.has_pools
            && self.world.holds("SEM-315")
            && network::is_of_pool(dst)
            && !network::is_pod(interface)
            && !has_address(&self.world, dst)
    }

    /// A packet without a frontend. A new direct connection may have the tuple of a translated flow towards the backend.
    /// While that flow is open, the connection gets another source port (SEM-080). Otherwise it removes the flow.
    fn direct(&self, packet: &Packet, interface: &'static str) -> Vec<Possible> {
        let may_begin = packet.is_syn() || packet.tuple.proto == Proto::Udp;
        let may_begin = may_begin && self.world.holds("SEM-108");
        let is_same = |f: &Flow| f.owns_backend && f.is_answer(packet.tuple.swapped());
        let found = self.memory.flows.iter().position(|f| may_begin && is_same(f));
        let removed = |i| possible(PacketOutcome::Untouched, &["flow_gave_way"], Then::Forget(i));
        if let Some(i) = found {
            let flow = &self.memory.flows[i];
            let life = if flow.owns_client { flow.holds_tuple(self.now) } else { Life::Over };
            let beside = || self.begin_direct(packet, interface, flow);
            let outcomes = match life {
                Life::Live => beside(),
                Life::Over => vec![removed(i)],
                Life::Unsure => iter::once(removed(i)).chain(beside()).collect(),
            };
            return outcomes.into_iter().chain(flow.may_be_removed.then(untouched)).collect();
        }
        // The packet may reply to a connection of the node itself. The SYN of such a connection passed no hook.
        let answered = packet.is_syn_ack().then(|| self.memory.of_backend(packet.tuple, ReplyHook::Ingress));
        match answered.flatten() {
            Some(i) => {
                let is_removed = self.memory.flows[i].may_be_removed;
                iter::once(removed(i)).chain(is_removed.then(untouched)).collect()
            }
            None => vec![untouched()],
        }
    }
}

/// Forwarded with this tuple. Fragments of an SCTP packet cannot be translated: the checksum covers all of them
/// (deviation SEM-010).
fn translated(packet: &Packet, as_: Tuple, exit: Exit, then: Then) -> Possible {
    let ports = |tuple: Tuple| (tuple.src.port(), tuple.dst.port());
    let is_sctp_part = packet.tuple.proto == Proto::Sctp && packet.shape.part.is_some();
    match is_sctp_part && ports(as_) != ports(packet.tuple) {
        true => possible(PacketOutcome::Dropped, &["drop_rewrite"], then),
        false => possible(PacketOutcome::Goes { as_, quoted: None, exit }, &[], then),
    }
}

/// The identity of a service port (SEM-007).
pub(super) fn service_port(service: &str, port: &str, proto: Proto) -> String {
    format!("{service}:{port}/{proto:?}")
}

/// The destination is a frontend; for generators of packets.
pub fn is_frontend(world: &World, dst: SocketAddr, proto: Proto) -> Option<Kind> {
    frontend(world, dst, proto).map(|f| f.kind)
}
