//! The flows and session affinity entries that have begun: the state of a connection tracker, as plain lists.

use std::net::{IpAddr, SocketAddr};

use super::network;
use super::packet::{ACK, FIN, Packet, RST, SYN};
use super::world::{Proto, Tuple};

/// Milliseconds.
pub type Time = i64;

/// The kernel counts in ticks of 2^30 ns, and two clocks may differ by a tick.
const TICK: Time = 1_074;

/// A server's TIME_WAIT, with the difference of two clocks.
const TIME_WAIT: Time = 62 * TICK;

/// How the packets of a flow leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExitKind {
    /// Through this node's own stack.
    Stack,
    /// To the next hop of the route, past the stack.
    Redirect,
    /// Back out of the interface by which they came.
    Hairpin,
}

/// The hook at which the backend's replies are translated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyHook {
    Ingress,
    PodEgress,
    UplinkEgress,
}

/// The direction of a flow's packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the client to the backend.
    Forward,
    /// From the backend to the client.
    Reverse,
}

#[derive(Clone, Debug)]
pub struct Flow {
    /// The tuple that the client sends, and the one that the backend gets.
    pub client: Tuple,
    pub backend: Tuple,
    pub exit: ExitKind,
    pub reply_hook: ReplyHook,
    /// The backend is a datagram server on the node itself, which may answer from any of the node's addresses.
    pub wildcard_source: bool,
    /// No later flow has taken this tuple.
    pub owns_client: bool,
    pub owns_backend: bool,
    /// It was close to its end when expired flows were removed.
    pub may_be_removed: bool,
    events: FlowEvents,
    /// Time of its first packet, and of its last.
    began: Option<Time>,
    last: Time,
}

/// Events of a flow.
#[derive(Clone, Copy, Debug, Default)]
struct FlowEvents {
    replied: bool,
    established: bool,
    /// The client has sent after a reply.
    heard: bool,
    closed: [bool; 2],
    reset: bool,
    /// The directions with a segment after the reset. With both, the reset was outside of the window and ended nothing.
    after_reset: [bool; 2],
    /// Time from its first packet to its last.
    duration: Time,
}

/// Whether a flow is alive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    Live,
    Over,
    /// Too close to its end to decide by another clock.
    Unsure,
}

impl Flow {
    pub fn new(client: Tuple, backend: Tuple, exit: ExitKind, reply_hook: ReplyHook) -> Self {
        Self {
            client,
            backend,
            exit,
            reply_hook,
            wildcard_source: false,
            owns_client: true,
            owns_backend: true,
            may_be_removed: false,
            events: FlowEvents::default(),
            began: None,
            last: 0,
        }
    }

    /// A packet of this direction with these TCP flags; also the first one.
    pub fn touch(&mut self, direction: Direction, flags: u8, now: Time) {
        self.last = now;
        self.may_be_removed = false;
        self.events.duration = now - *self.began.get_or_insert(now);
        self.events.observe(self.client.proto, direction, flags);
    }

    /// Whether the flow holds its tuple. After both ends closed the connection, or one reset it, a new connection may take
    /// the tuple.
    pub fn holds_tuple(&self, now: Time) -> Life {
        if self.is_closed() { Life::Over } else { self.life(now) }
    }

    fn is_closed(&self) -> bool {
        self.events.is_reset() || self.events.closed == [true; 2]
    }

    /// Whether a new flow that finds no free port may take this one's: client and backend have not heard each other, and there
    /// was no packet for four ticks.
    fn gives_port(&self, now: Time) -> Life {
        let is_heard = match self.client.proto {
            Proto::Tcp => self.events.replied && self.events.established,
            Proto::Udp | Proto::Sctp | Proto::Icmp => self.events.heard,
        };
        let age = now - self.last;
        match () {
            () if is_heard || self.is_closed() || age < 3 * TICK => Life::Live,
            () if age > 6 * TICK => Life::Over,
            () => Life::Unsure,
        }
    }

    pub fn life(&self, now: Time) -> Life {
        let age = now - self.last;
        let (least, most) = self.events.lifetime(self.client.proto);
        match () {
            () if age > (most + 2) * TICK => Life::Over,
            () if age < (least - 1) * TICK => Life::Live,
            () => Life::Unsure,
        }
    }

    /// A packet with this tuple is a reply of the backend.
    pub fn is_answer(&self, tuple: Tuple) -> bool {
        let answer = self.backend.swapped();
        let is_source = tuple.src == answer.src
            || (self.wildcard_source
                && tuple.src.port() == answer.src.port()
                && network::is_node(tuple.src.ip()));
        tuple.proto == answer.proto && tuple.dst == answer.dst && is_source
    }

    /// Replies to `backend` would have the same tuple as replies to this flow.
    fn is_answered_like(&self, backend: Tuple) -> bool {
        self.is_answer(backend.swapped())
    }
}

impl FlowEvents {
    fn observe(&mut self, proto: Proto, direction: Direction, flags: u8) {
        self.heard |= self.replied && direction == Direction::Forward;
        self.replied |= direction == Direction::Reverse;
        if proto == Proto::Tcp {
            self.established |= direction == Direction::Forward && flags & (SYN | ACK | RST) == ACK;
            self.closed[direction as usize] |= flags & FIN != 0;
            self.after_reset[direction as usize] |= self.reset && flags & (SYN | ACK | RST) == ACK;
            self.reset |= flags & RST != 0;
        }
    }

    fn is_reset(&self) -> bool {
        self.reset && self.after_reset != [true; 2]
    }

    /// Lifetime without a packet, at least and at most (SEM-123; closed connections as in nf_conntrack).
    fn lifetime(&self, proto: Proto) -> (Time, Time) {
        // A stream has packets over two seconds.
        let (is_stream, may_be_stream) = (self.duration >= 3 * TICK, self.duration >= TICK / 2);
        let seconds = match (proto, self.closed) {
            (Proto::Udp | Proto::Icmp, _) if self.replied && is_stream => 120,
            (Proto::Udp | Proto::Icmp, _) if self.replied && may_be_stream => return (30, 120),
            (Proto::Udp | Proto::Icmp, _) => 30,
            (Proto::Sctp, _) if self.replied => 210,
            (Proto::Sctp, _) => 30,
            _ if self.is_reset() => 10,
            (_, [true, true]) => 120,
            (_, [true, false] | [false, true]) => 3_600,
            _ if self.established && self.replied => 86_400,
            // Picked up in mid-flow, without a reply.
            _ if self.established => 300,
            _ => 60,
        };
        (seconds, seconds)
    }
}

/// A client's backend by session affinity (SEM-230 to SEM-238).
#[derive(Clone, Debug)]
pub struct AffinityEntry {
    pub service_port: String,
    pub client: IpAddr,
    pub backend: SocketAddr,
    pub until: Time,
}

/// The tuple of a packet whose first fragment has been seen.
#[derive(Clone, Copy, Debug)]
pub struct FirstFragment {
    pub id: u16,
    pub tuple: Tuple,
}

impl FirstFragment {
    /// The packet is another fragment of the same packet, by all fields that fragments share.
    pub fn is_of(&self, packet: &Packet) -> bool {
        let Tuple { proto, src, dst } = packet.tuple;
        packet.shape.part.is_some_and(|part| part.id == self.id)
            && (proto, src.ip(), dst.ip()) == (self.tuple.proto, self.tuple.src.ip(), self.tuple.dst.ip())
    }
}

#[derive(Debug, Default)]
pub struct Memory {
    pub fragments: Vec<FirstFragment>,
    pub flows: Vec<Flow>,
    pub affinity: Vec<AffinityEntry>,
}

impl Memory {
    /// The flow of a client's packet.
    pub fn of_client(&self, tuple: Tuple) -> Option<usize> {
        self.flows.iter().position(|f| f.owns_client && f.client == tuple)
    }

    /// The flow of a backend's packet, if its replies are translated here.
    pub fn of_backend(&self, tuple: Tuple, at: ReplyHook) -> Option<usize> {
        self.flows.iter().position(|f| f.owns_backend && f.reply_hook == at && f.is_answer(tuple))
    }

    /// Whether another client's live flow has the tuple towards the backend. A connection that has closed may still be in
    /// TIME_WAIT there, so that its tuple may stay taken for a while.
    pub fn is_taken(&self, client: Tuple, backend: Tuple, now: Time) -> Life {
        let mut others =
            self.flows.iter().filter(|f| f.owns_backend && f.client != client && f.is_answered_like(backend));
        let Some(other) = others.next() else { return Life::Over };
        let rests = other.is_closed() && other.client.proto == Proto::Tcp && now - other.last < TIME_WAIT;
        if rests { Life::Unsure } else { other.holds_tuple(now) }
    }

    /// Whether the flow that has the tuple towards the backend may lose it while no other tuple is free.
    pub fn gives_port(&self, backend: Tuple, now: Time) -> Life {
        let owner = self.flows.iter().find(|f| f.owns_backend && f.is_answered_like(backend));
        owner.map_or(Life::Live, |owner| owner.gives_port(now))
    }

    /// A new flow takes its tuples from their owners. A flow that gives its port up begins anew with its client's next
    /// packet.
    pub fn begin(&mut self, flow: Flow, now: Time) {
        for old in &mut self.flows {
            let loses_port = old.owns_backend && old.is_answered_like(flow.backend);
            let is_given = loses_port && old.gives_port(now) == Life::Over && old.life(now) == Life::Live;
            old.owns_client &= old.client != flow.client && !is_given;
            old.owns_backend &= !loses_port;
        }
        self.flows.push(flow);
    }

    /// Gives the backend's tuple back to a flow with another packet of its client, if no other flow has the tuple.
    pub fn restore(&mut self, flow: usize) {
        let Flow { backend, owns_client, .. } = self.flows[flow];
        let is_free = !self.flows.iter().any(|f| f.owns_backend && f.is_answered_like(backend));
        self.flows[flow].owns_backend |= owns_client && is_free && !self.flows[flow].is_closed();
    }

    /// Ends a UDP flow to a removed endpoint. The client's next packet begins another flow. Replies that are on their way
    /// are translated until this flow expires. Another flow may take its tuple.
    pub fn end(&mut self, flow: usize) {
        let flow = &mut self.flows[flow];
        flow.owns_client = false;
        flow.events = FlowEvents { reset: true, ..FlowEvents::default() };
        flow.began = Some(flow.last);
    }

    pub fn forget(&mut self, flow: usize) {
        let flow = &mut self.flows[flow];
        (flow.owns_client, flow.owns_backend) = (false, false);
    }

    pub fn remember_affinity(&mut self, entry: AffinityEntry) {
        self.affinity.retain(|one| (&one.service_port, one.client) != (&entry.service_port, entry.client));
        self.affinity.push(entry);
    }
}
