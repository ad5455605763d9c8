//! The model of packets without ports of their own: later fragments (SEM-109), and ICMP errors that quote a
//! translated packet (SEM-079).

use super::memory::{BackAt, Flow, Life, Side, Way};
use super::network;
use super::oracle::{Exit, Model, PacketOutcome, Possible, Seen, Then, possible, untouched};
use super::packet::{Packet, Quote};
use super::verdict::has_address;
use super::world::Tuple;

impl Model {
    /// A later fragment follows the first one. Without a first one it must not leave with a Service's address.
    pub(super) fn part(&self, packet: &Packet, seen: Seen) -> Vec<Possible> {
        let known = self.memory.parts.iter().rev().find(|known| known.is_of(packet));
        if let Some((flow, side)) = known.and_then(|known| self.met(known.tuple, seen)) {
            let as_ = if side == Side::Client { flow.backend } else { flow.client.swapped() };
            return self.unless_over(flow, self.moves(packet, flow, as_, None, &[]));
        }
        if matches!(seen, Seen::Arriving(interface) if self.is_unused_of_pool(packet, interface)) {
            return vec![possible(PacketOutcome::Dropped, &["drop_unallocated"], Then::Nothing)];
        }
        let is_services = has_address(&self.world, packet.tuple.dst.ip());
        let is_arriving = matches!(seen, Seen::Arriving(_));
        match is_arriving && is_services && !network::is_node(packet.tuple.dst.ip()) {
            true => vec![possible(PacketOutcome::Dropped, &["drop_fragment"], Then::Nothing)],
            false => vec![untouched()],
        }
    }

    /// An ICMP error: its source and the quoted packet are translated back for the quoted packet's sender.
    pub(super) fn about(&self, packet: &Packet, quote: &Quote, seen: Seen) -> Vec<Possible> {
        let answer = quote.tuple.swapped();
        let Some((flow, side)) = self.met(answer, seen) else { return vec![untouched()] };
        let (as_, quoted) = match side {
            Side::Client => (flow.backend, flow.backend.swapped()),
            Side::Backend => (flow.client.swapped(), flow.client),
        };
        let outer = packet.tuple;
        let mut src = outer.src;
        if src.ip() == answer.src.ip() {
            src.set_ip(as_.src.ip());
        }
        let mut dst = outer.dst;
        dst.set_ip(as_.dst.ip());
        self.unless_over(
            flow,
            self.moves(packet, flow, Tuple { src, dst, ..outer }, Some(quoted), &["icmp_translated"]),
        )
    }

    /// The flow, and its side, that matches a packet with this tuple here.
    fn met(&self, tuple: Tuple, seen: Seen) -> Option<(&Flow, Side)> {
        let (client, at) = match seen {
            Seen::Arriving(_) => (self.memory.of_client(tuple), BackAt::Ingress),
            Seen::Leaving(interface) if network::is_pod(interface) => (None, BackAt::PodEgress),
            Seen::Leaving(_) => (None, BackAt::UplinkEgress),
        };
        let backend = || self.memory.of_backend(tuple, at).map(|i| (i, Side::Backend));
        let (i, side) = client.map(|i| (i, Side::Client)).or_else(backend)?;
        Some((&self.memory.flows[i], side))
    }

    fn moves(
        &self,
        packet: &Packet,
        flow: &Flow,
        as_: Tuple,
        quoted: Option<Tuple>,
        counts: &[&'static str],
    ) -> Vec<Possible> {
        let exit = match flow.way {
            Way::Stack => Exit::Stack,
            Way::Back => Exit::Back,
            Way::Redirect if packet.shape.ttl <= 1 => {
                return vec![possible(PacketOutcome::Dropped, &["drop_ttl"], Then::Nothing)];
            }
            Way::Redirect => match network::route(as_.dst.ip()) {
                Some(route) => Exit::Hop(route),
                None => return vec![possible(PacketOutcome::Dropped, &["drop_no_route"], Then::Nothing)],
            },
        };
        vec![possible(PacketOutcome::Goes { as_, quoted, exit }, counts, Then::Nothing)]
    }

    /// If the flow may be forgotten already, its packets may be left alone, too.
    fn unless_over(&self, flow: &Flow, mut outcomes: Vec<Possible>) -> Vec<Possible> {
        if flow.life(self.now) != Life::Live {
            outcomes.push(untouched());
        }
        outcomes
    }
}
