//! What the packets were and what became of them, counted: a run that never meets a verdict proves nothing about it.

use std::collections::BTreeMap;
use std::fmt;

use svc_tests::model::oracle::{Exit, Fate, Possible, Seen, is_frontend};
use svc_tests::model::packet::Packet;
use svc_tests::model::world::{Proto, Tuple, World};
use svc_tests::packet::row::{At, Problem};

/// Every one of these is met so many times at least, and so many of a hundred packets go to a frontend.
const SELDOM: u64 = 1_000;
const SHARE: u64 = 60;

/// Fates, frontends, and every counter that a packet can move in tables that are whole and have room: not
/// `drop_no_backend` and `flow_table_full`.
const MET: &[&str] = &[
    "at PodIngress",
    "at PodEgress",
    "at UplinkIngress",
    "at UplinkEgress",
    "at Xdp",
    "frontend ClusterIp",
    "frontend NodePort",
    "frontend ExternalIp",
    "frontend LoadBalancer",
    "IPv4 Sctp",
    "IPv6 Sctp",
    "SCTP in fragments: dropped",
    "fate: untouched",
    "fate: by the stack",
    "fate: answer by the stack",
    "fate: back",
    "fate: redirected, resolved",
    "fate: redirected, unresolved",
    "counter flow_new",
    "counter flow_midstream",
    "counter flow_gave_way",
    "counter reject_no_endpoint",
    "counter reject_unknown_port",
    "counter reject_too_big",
    "counter reject_limited",
    "counter drop_no_local_endpoint",
    "counter icmp_translated",
    "counter drop_fragment",
    "counter drop_source_range",
    "counter drop_unallocated",
    "counter drop_snat_exhausted",
    "counter drop_no_route",
    "counter drop_no_snat_address",
    "counter drop_ttl",
    "counter reject_ttl",
    "counter drop_rewrite",
    "counter drop_forwarding_off",
];

/// What may become of a frame with octets changed.
const FRAMES: &[&str] = &["frame left alone", "frame dropped", "frame refused", "frame translated"];

#[derive(Default)]
pub struct Histogram {
    pub packets: u64,
    pub to_frontends: u64,
    counts: BTreeMap<String, u64>,
}

impl Histogram {
    /// A client's packet, before it is sent.
    pub fn client(&mut self, world: &World, tuple: Tuple) {
        if let Some(kind) = is_frontend(world, tuple.dst, tuple.proto) {
            self.to_frontends += 1;
            self.add(format!("frontend {kind:?}"));
        }
    }

    pub fn count(&mut self, packet: &Packet, seen: Seen, at: At, chosen: &Possible) {
        self.packets += 1;
        self.add(format!("at {at:?}"));
        let fate = match chosen.fate {
            Fate::Untouched => "untouched".to_owned(),
            Fate::Dropped => "dropped".to_owned(),
            Fate::Refused { problem: Problem::PortUnreachable, .. } => "refused".to_owned(),
            Fate::Refused { problem: Problem::TooBig(_), .. } => "too big".to_owned(),
            Fate::Refused { problem: Problem::TimeExceeded, .. } => "time exceeded".to_owned(),
            Fate::Goes { exit: Exit::Stack, .. } if matches!(seen, Seen::Leaving(_)) => {
                "answer by the stack".to_owned()
            }
            Fate::Goes { exit: Exit::Stack, .. } => "by the stack".to_owned(),
            Fate::Goes { exit: Exit::Back, .. } => "back".to_owned(),
            Fate::Goes { exit: Exit::Hop(route), .. } => {
                format!("redirected, {}", if route.mac.is_some() { "resolved" } else { "unresolved" })
            }
        };
        self.add(format!("fate: {fate}"));
        if packet.tuple.proto == Proto::Sctp && packet.shape.part.is_some() {
            self.add(format!("SCTP in fragments: {fate}"));
        }
        let family = if packet.tuple.src.is_ipv4() { "IPv4" } else { "IPv6" };
        self.add(format!("{family} {:?}", packet.tuple.proto));
        for label in &chosen.counts {
            self.add(format!("counter {label}"));
        }
    }

    pub fn add(&mut self, what: String) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What is met too seldom to say that it is right; empty after enough packets.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = self.rare(MET);
        if self.to_frontends * 100 < self.packets * SHARE {
            gaps.push(format!("less than {SHARE} % of the packets to a frontend"));
        }
        gaps
    }

    /// The same of frames with octets changed.
    pub fn gaps_of_frames(&self) -> Vec<String> {
        self.rare(FRAMES)
    }

    fn rare(&self, among: &[&str]) -> Vec<String> {
        let of = |what: &&str| self.counts.get(*what).copied().unwrap_or(0);
        let rare = among.iter().filter(|what| of(what) < SELDOM);
        rare.map(|what| format!("only {} times {what}", of(what))).collect()
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100 * self.to_frontends / self.packets.max(1);
        writeln!(f, "{} packets, {share} % of them to a frontend", self.packets)?;
        self.counts.iter().try_for_each(|(what, n)| writeln!(f, "{n:>9} {what}"))
    }
}
