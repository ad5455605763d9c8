//! The model of packets without ports of their own: later fragments (SEM-109), and ICMP errors that quote a
//! translated packet (SEM-079).

use super::memory::{Direction, ExitKind, Flow, Life, ReplyHook};
use super::network;
use super::oracle::{Exit, Model, PacketOutcome, Possible, Seen, Then, possible, untouched};
use super::packet::{Packet, Quote};
use super::verdict::has_address;
use super::world::Tuple;

impl Model {
    /// A later fragment follows the first one. If the first one was not seen, the fragment must not leave with a Service's
    /// address.
    pub(super) fn later_fragment(&self, packet: &Packet, seen: Seen) -> Vec<Possible> {
        let known = self.memory.fragments.iter().rev().find(|known| known.is_of(packet));
        if let Some((flow, direction)) = known.and_then(|known| self.flow_of(known.tuple, seen)) {
            let as_ = if direction == Direction::Forward { flow.backend } else { flow.client.swapped() };
            return self.unless_over(flow, self.forwarded(packet, flow, as_, None, &[]));
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
    pub(super) fn icmp_error(&self, packet: &Packet, quote: &Quote, seen: Seen) -> Vec<Possible> {
        let answer = quote.tuple.swapped();
        let Some((flow, direction)) = self.flow_of(answer, seen) else {
            return match seen {
                Seen::Arriving(interface) if self.is_unused_of_pool(packet, interface) => {
                    vec![possible(PacketOutcome::Dropped, &["drop_unallocated"], Then::Nothing)]
                }
                _ => vec![untouched()],
            };
        };
        let (as_, quoted) = match direction {
            Direction::Forward => (flow.backend, flow.backend.swapped()),
            Direction::Reverse => (flow.client.swapped(), flow.client),
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
            self.forwarded(packet, flow, Tuple { src, dst, ..outer }, Some(quoted), &["icmp_translated"]),
        )
    }

    /// The flow of a packet with this tuple at this hook, and the packet's direction.
    fn flow_of(&self, tuple: Tuple, seen: Seen) -> Option<(&Flow, Direction)> {
        let (client, at) = match seen {
            Seen::Arriving(_) => (self.memory.of_client(tuple), ReplyHook::Ingress),
            Seen::Leaving(interface) if network::is_pod(interface) => (None, ReplyHook::PodEgress),
            Seen::Leaving(_) => (None, ReplyHook::UplinkEgress),
        };
        let backend = || self.memory.of_backend(tuple, at).map(|i| (i, Direction::Reverse));
        let (i, direction) = client.map(|i| (i, Direction::Forward)).or_else(backend)?;
        Some((&self.memory.flows[i], direction))
    }

    fn forwarded(
        &self,
        packet: &Packet,
        flow: &Flow,
        as_: Tuple,
        quoted: Option<Tuple>,
        counts: &[&'static str],
    ) -> Vec<Possible> {
        let exit = match flow.exit {
            ExitKind::Stack => Exit::Stack,
            ExitKind::Hairpin => Exit::Hairpin,
            ExitKind::Redirect if packet.shape.ttl <= 1 => {
                return vec![possible(PacketOutcome::Dropped, &["drop_ttl"], Then::Nothing)];
            }
            ExitKind::Redirect => match network::route(as_.dst.ip()) {
                Some(route) => Exit::Hop(route),
                None => return vec![possible(PacketOutcome::Dropped, &["drop_no_route"], Then::Nothing)],
            },
        };
        vec![possible(PacketOutcome::Goes { as_, quoted, exit }, counts, Then::Nothing)]
    }

    /// If svc may have removed the flow already, its packets may be left alone, too.
    fn unless_over(&self, flow: &Flow, mut outcomes: Vec<Possible>) -> Vec<Possible> {
        if flow.life(self.now) != Life::Live {
            outcomes.push(untouched());
        }
        outcomes
    }
}
