//! Counts packets and their results: a run without a certain verdict proves nothing about it.

use std::collections::BTreeMap;
use std::fmt;

use svc_tests::model::oracle::{Exit, PacketOutcome, Possible, Seen, is_frontend};
use svc_tests::model::packet::Packet;
use svc_tests::model::world::{Proto, Tuple, World};
use svc_tests::packet::row::{At, Problem};

/// Minimum number of each, and the minimum percentage of packets to frontends.
const SELDOM: u64 = 1_000;
const SHARE: u64 = 60;

/// Results, frontends, and every counter that packets can move if tables are consistent and not full: all but
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
    "outcome: untouched",
    "outcome: by the stack",
    "outcome: answer by the stack",
    "outcome: back",
    "outcome: redirected, resolved",
    "outcome: redirected, unresolved",
    "counter flow_new",
    "counter flow_midstream",
    "counter flow_direct",
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

/// Possible results for a frame with changed octets.
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
        let outcome = match chosen.outcome {
            PacketOutcome::Untouched => "untouched".to_owned(),
            PacketOutcome::Dropped => "dropped".to_owned(),
            PacketOutcome::Refused { problem: Problem::PortUnreachable, .. } => "refused".to_owned(),
            PacketOutcome::Refused { problem: Problem::TooBig(_), .. } => "too big".to_owned(),
            PacketOutcome::Refused { problem: Problem::TimeExceeded, .. } => "time exceeded".to_owned(),
            PacketOutcome::Goes { exit: Exit::Stack, .. } if matches!(seen, Seen::Leaving(_)) => {
                "answer by the stack".to_owned()
            }
            PacketOutcome::Goes { exit: Exit::Stack, .. } => "by the stack".to_owned(),
            PacketOutcome::Goes { exit: Exit::Hairpin, .. } => "back".to_owned(),
            PacketOutcome::Goes { exit: Exit::Hop(route), .. } => {
                format!("redirected, {}", if route.mac.is_some() { "resolved" } else { "unresolved" })
            }
        };
        self.add(format!("outcome: {outcome}"));
        if packet.tuple.proto == Proto::Sctp && packet.shape.part.is_some() {
            self.add(format!("SCTP in fragments: {outcome}"));
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

    /// Results that occurred too rarely; empty after enough packets.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = self.rare(MET);
        if self.to_frontends * 100 < self.packets * SHARE {
            gaps.push(format!("less than {SHARE} % of the packets to a frontend"));
        }
        gaps
    }

    /// The same for frames with changed octets.
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
