//! Compares the result for a packet with the results that the rules allow.

use anyhow::{Result, ensure};
use svc_common::abi::Counter;
use svc_tests::model::oracle::{Exit, PacketOutcome, Possible};
use svc_tests::model::packet::{ETH, Packet, Quote, Shape, tuple_in};
use svc_tests::model::world::{Proto, Tuple};
use svc_tests::packet::error::{IcmpError, compare};
use svc_tests::packet::place;
use svc_tests::packet::row::At;
use svc_tests::packet::wire::L4;

use super::run::{Counts, ProgramOutcome, Verdict};

/// A packet with its result.
pub struct Examined<'a> {
    pub packet: &'a Packet,
    pub input: &'a [u8],
    pub outcome: &'a ProgramOutcome,
    pub at: At,
    pub interface: &'static str,
    /// The counters, read only if they distinguish results.
    pub counters: Option<Counts>,
}

impl Examined<'_> {
    /// This result is possible, by verdict, tuple and counters.
    pub fn fits(&self, possible: &Possible) -> bool {
        let ProgramOutcome { verdict, octets } = self.outcome;
        let is_same = || octets == self.input;
        let looks_like = match possible.outcome {
            PacketOutcome::Untouched => *verdict == Verdict::Pass && is_same(),
            PacketOutcome::Dropped => *verdict == Verdict::Drop && is_same(),
            PacketOutcome::Refused { .. } => *verdict == Verdict::Redirect && is_error(octets),
            PacketOutcome::Goes { as_, exit, .. } => *verdict == self.wanted(exit) && self.carries(as_),
        };
        looks_like && self.has_counted(possible)
    }

    /// The resulting packet has this tuple, as far as visible.
    fn carries(&self, tuple: Tuple) -> bool {
        let packet = self.packet;
        let got = tuple_in(&self.outcome.octets, packet);
        match packet.has_ports() && packet.quotes.is_none() {
            true => got == Some(tuple),
            false => got.is_some_and(|g| (g.src.ip(), g.dst.ip()) == (tuple.src.ip(), tuple.dst.ip())),
        }
    }

    fn has_counted(&self, possible: &Possible) -> bool {
        let mut want = Counts::new();
        possible.counts.iter().for_each(|label| *want.entry(label).or_default() += 1);
        self.counters.as_ref().is_none_or(|counters| {
            let counters = counters.iter().filter(|(label, _)| **label != Counter::FlowTwinRestored.label());
            counters.map(|(label, n)| (*label, *n)).eq(want)
        })
    }

    fn wanted(&self, exit: Exit) -> Verdict {
        match exit {
            Exit::Stack => Verdict::Pass,
            Exit::Hairpin => Verdict::Redirect,
            Exit::Hop(route) if self.at == At::Xdp && route.interface == self.interface => Verdict::Transmit,
            Exit::Hop(_) => Verdict::Redirect,
        }
    }

    /// The whole packet is correct.
    pub fn check_octets(&self, chosen: &Possible) -> Result<()> {
        let got = &self.outcome.octets;
        let want = match chosen.outcome {
            PacketOutcome::Untouched | PacketOutcome::Dropped => return Ok(()),
            PacketOutcome::Refused { from, problem } => {
                let l4 = match self.packet.tuple.proto {
                    Proto::Tcp => L4::Tcp,
                    Proto::Udp => L4::Udp,
                    Proto::Sctp => L4::Sctp,
                    Proto::Icmp => L4::Icmp,
                };
                let to = self.packet.tuple.src.ip();
                IcmpError { from, to, l4, problem }.to_octets(self.input, got)?
            }
            PacketOutcome::Goes { as_, quoted, exit } => {
                let (dmac, smac) = match exit {
                    Exit::Stack => (mac(self.input, 0), mac(self.input, 6)),
                    Exit::Hairpin => (mac(self.input, 6), mac(self.input, 0)),
                    Exit::Hop(route) => match route.mac {
                        Some(dmac) => (dmac, place::macs(route.interface).0),
                        None => (mac(self.input, 0), mac(self.input, 6)),
                    },
                };
                let hops = u8::from(matches!(exit, Exit::Hop(_)));
                let shape = Shape { ttl: self.packet.shape.ttl - hops, ..self.packet.shape };
                let quotes = self.packet.quotes.zip(quoted).map(|(q, tuple)| Quote { tuple, ..q });
                Packet { tuple: as_, shape, quotes }.octets(dmac, smac)
            }
        };
        ensure!(want == *got, "{:?} at {:?}: the packet{}", self.packet, self.at, compare(&want, got));
        Ok(())
    }

    pub fn complaint(&self, possible: &[Possible]) -> String {
        let ProgramOutcome { verdict, octets } = self.outcome;
        let change = match octets == self.input {
            true => "unchanged".to_owned(),
            false => format!("as {:?}, {} octets", tuple_in(octets, self.packet), octets.len()),
        };
        let allowed: Vec<String> =
            possible.iter().take(12).map(|p| format!("{:?} {:?}", p.outcome, p.counts)).collect();
        format!(
            "{:?}\n at {:?} of {}: {verdict:?}, {change}, counters {:?}\n allowed (of {}):\n  {}",
            self.packet,
            self.at,
            self.interface,
            self.counters,
            possible.len(),
            allowed.join("\n  ")
        )
    }
}

/// The frame is an ICMP error.
fn is_error(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(ETH + 9) == Some(&1),
        _ => frame.get(ETH + 6) == Some(&58),
    }
}

fn mac(frame: &[u8], at: usize) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame[at..at + 6]);
    mac
}
