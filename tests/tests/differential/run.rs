//! Runs a case through the kernel and the model together: each result must be allowed by the rules, octet by octet.
//! Then the model learns it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use svc_common::abi::Counter;
use svc_ctl::dataplane::clock::coarse_ns;
use svc_tests::model::memory::{Direction, ExitKind, Memory, ReplyHook};
use svc_tests::model::network::{self, is_pod};
use svc_tests::model::oracle::{Model, PacketOutcome, Possible, Seen, Then};
use svc_tests::model::packet::{ETH, Packet, Quote, Shape};
use svc_tests::model::world::{Proto, Tuple, World};
use svc_tests::packet::place;
use svc_tests::packet::row::At;
use svc_tests::packet::run::CHECKSUM_COMPLETE;
use svc_tests::packet::tagged::untagged;

use super::case::{Case, Delivery, Flow, Step};
use super::examine::Examined;
use super::fuzz;
use super::histogram::Histogram;
use super::node::{Node, SNAT_PORTS};
use super::rng::Rng;

/// Counters are compared after this many steps, and at the end of a case.
const STEPS_PER_COUNT: usize = 16;
/// Only this many errors in two ticks are certain to be sent.
const ERRORS: u64 = 1_000;

pub type Counts = BTreeMap<&'static str, u64>;

pub struct Runner {
    node: Node,
    pub histogram: Histogram,
    /// A rule for the model to break.
    pub broken: Option<&'static str>,
    /// Errors sent in a tick of the clock, this one and the last.
    errors: [(u64, u64); 2],
}

/// Result of a program for a packet.
pub struct ProgramOutcome {
    pub verdict: Verdict,
    pub octets: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Pass,
    Drop,
    Redirect,
    /// XDP: sent back by the same interface.
    Transmit,
}

impl Runner {
    /// With the product's programs, or with those of another object.
    pub fn new(mutant: Option<&[u8]>) -> Result<Self> {
        Ok(Self {
            node: Node::new(mutant)?,
            histogram: Histogram::default(),
            broken: None,
            errors: [(0, 0); 2],
        })
    }

    /// The error is the first disagreement, with the number of its step.
    pub fn run(&mut self, case: &Case) -> Result<(), (usize, anyhow::Error)> {
        self.node.forget().and_then(|()| self.node.apply(&case.world)).map_err(|error| (0, error))?;
        let (first, count) = SNAT_PORTS;
        let mut trial = Trial {
            case,
            model: Model {
                world: World { broken: self.broken, ..case.world.clone() },
                memory: Memory::default(),
                now: 0,
                snat_ports: first..first + count,
                is_limited: false,
            },
            aged: 0,
            expected: Counts::new(),
            before: self.counters(),
        };
        for (i, step) in case.steps.iter().enumerate() {
            self.take(&mut trial, step).map_err(|error| (i, error))?;
            if (i + 1) % STEPS_PER_COUNT == 0 || i + 1 == case.steps.len() {
                self.compare_counters(&trial).map_err(|error| (i, error))?;
            }
        }
        Ok(())
    }

    /// Runs changed frames to the flows of a case.
    pub fn fuzz(&mut self, case: &Case, rng: &mut Rng, frames: usize) -> Result<()> {
        self.node.forget()?;
        self.node.apply(&case.world)?;
        for _ in 0..frames {
            let (interface, frame) = fuzz::frame(rng, case);
            let hooks: &[At] = if is_pod(interface) {
                &[At::PodIngress, At::PodEgress]
            } else {
                &[At::Xdp, At::UplinkIngress]
            };
            let at = rng.pick(hooks);
            // At TC an outer tag is beside the frame.
            let seen = if at == At::Xdp { frame.clone() } else { untagged(&frame).1 };
            // A test run at TC needs an IP header (of either family).
            if at != At::Xdp && seen.len() < ETH + 40 {
                continue;
            }
            let outcome = self.program(at, interface, &frame, 0)?;
            let became = fuzz::check(&case.world, &seen, &outcome);
            let became = became.with_context(|| format!("{at:?} of {interface}"))?;
            self.histogram.add(became.to_owned());
            // A dropped frame may have exceeded the limit for errors.
            if matches!(became, "frame refused" | "frame dropped") {
                self.sent_an_error();
            }
        }
        Ok(())
    }

    fn take(&mut self, trial: &mut Trial<'_>, step: &Step) -> Result<()> {
        match step {
            Step::Age(ticks) => {
                trial.aged += i64::from(*ticks) << 30;
                self.node.age(*ticks)
            }
            Step::Change(world) => {
                self.node.apply(world)?;
                trial.tell_time();
                trial.model.change(World::clone(world));
                Ok(())
            }
            Step::Client { flow, shape, delivery } => {
                let Flow { interface, tuple } = trial.case.flows[*flow];
                self.histogram.client(&trial.model.world, tuple);
                self.send(trial, tuple, *shape, *delivery, Seen::Arriving(interface))
            }
            Step::Backend { flow, shape, delivery } => {
                let Some((tuple, seen)) = trial.answer(*flow, *delivery) else { return Ok(()) };
                self.send(trial, tuple, *shape, *delivery, seen)
            }
            Step::Error { flow, by, shape, octets, is_router, delivery } => {
                let complaint = Complaint { by: *by, shape: *shape, octets: *octets, is_router: *is_router };
                self.complain(trial, *flow, &complaint, *delivery)
            }
            Step::Direct { flow, shape, delivery } => {
                let Flow { interface, tuple } = trial.case.flows[*flow];
                let Some(dst) = trial.backend_of(tuple) else { return Ok(()) };
                self.send(trial, Tuple { dst, ..tuple }, *shape, *delivery, Seen::Arriving(interface))
            }
        }
    }

    /// Sends an ICMP error about a packet of the other direction.
    fn complain(
        &mut self,
        trial: &mut Trial<'_>,
        flow: usize,
        complaint: &Complaint,
        delivery: Delivery,
    ) -> Result<()> {
        let Flow { interface, tuple } = trial.case.flows[flow];
        let Complaint { by, shape, octets, is_router } = *complaint;
        let Some((answer, seen)) = trial.answer(flow, Delivery { elsewhere: false, ..delivery }) else {
            return Ok(());
        };
        // A packet of the error's direction, the hook that sees it, and a possible router on the path.
        let (from, seen, router) = match by {
            Direction::Forward => (tuple, Seen::Arriving(interface), [203, 0, 113, 250]),
            Direction::Reverse => (answer, seen, [10, 244, 2, 250]),
        };
        let quoted = Packet { tuple: from.swapped(), shape, quotes: None };
        let frame = quoted.octets([0; 6], [0; 6]);
        // A UDP checksum of zero has two forms, and receivers ignore a quoted one.
        let check = &frame[frame.len() - quoted.whole()..][6..8];
        if from.proto == Proto::Udp && matches!(check, [0, 0] | [0xff, 0xff]) && !shape.has_no_sum {
            return Ok(());
        }
        let src = if is_router { network::at(router, from.src.is_ipv4()) } else { from.src.ip() };
        let whole = |addr: IpAddr| SocketAddr::new(addr, 0);
        let outer = Tuple { proto: Proto::Icmp, src: whole(src), dst: whole(from.dst.ip()) };
        let octets = octets.min(quoted.whole());
        let quotes = Some(Quote { tuple: quoted.tuple, shape, octets, summed: quoted.tuple });
        let shape = Shape { ttl: shape.ttl, ..Shape::default() };
        self.deliver(trial, Packet { tuple: outer, shape, quotes }, delivery, seen)
    }

    fn send(
        &mut self,
        trial: &mut Trial<'_>,
        tuple: Tuple,
        shape: Shape,
        delivery: Delivery,
        seen: Seen,
    ) -> Result<()> {
        self.deliver(trial, Packet { tuple, shape, quotes: None }, delivery, seen)
    }

    fn deliver(
        &mut self,
        trial: &mut Trial<'_>,
        packet: Packet,
        delivery: Delivery,
        seen: Seen,
    ) -> Result<()> {
        let Packet { tuple, shape, .. } = packet;
        let (interface, is_ingress) = match seen {
            Seen::Arriving(interface) => (interface, true),
            Seen::Leaving(interface) => (interface, false),
        };
        trial.tell_time();
        trial.model.is_limited = self.errors.iter().map(|(_, n)| n).sum::<u64>() >= ERRORS;
        let possible = trial.model.judge(&packet, seen);
        let (own, peer) = place::macs(interface);
        let own = if shape.is_stray { place::mac(0x77) } else { own };
        let (dmac, smac) = if is_ingress { (own, peer) } else { (peer, own) };
        let input = packet.octets(dmac, smac);
        // Counters are read only if they distinguish results.
        let before = possible.iter().any(|p| p.counts != possible[0].counts).then(|| self.counters());

        let may_err = possible.iter().any(|p| matches!(p.outcome, PacketOutcome::Refused { .. }));
        let is_summed = delivery.is_summed
            && self.node.kernel.knows_complete_checksums
            && !may_err
            && !shape.has_no_sum
            && packet.quotes.is_none()
            && shape.part.is_none()
            && tuple.proto != Proto::Icmp;
        let flags = if is_summed { CHECKSUM_COMPLETE } else { 0 };
        let (outcome, at) = self.through(&input, interface, is_ingress, delivery.by_xdp, flags)?;
        trial.tell_time();

        let counters = before.map(|before| difference(&self.counters(), &before));
        let examined =
            Examined { packet: &packet, input: &input, outcome: &outcome, at, interface, counters };
        let allowed: Vec<&Possible> = possible.iter().filter(|p| examined.fits(p)).collect();
        let chosen = self.one_of(&allowed, tuple);
        let Some(chosen) = chosen else { bail!(examined.complaint(&possible)) };
        examined.check_octets(chosen)?;
        self.histogram.count(&packet, seen, at, chosen);
        // An error that could not be written counts as well.
        let was_due = chosen.counts.iter().any(|l| matches!(*l, "reject_limited" | "drop_rewrite"));
        if was_due || matches!(chosen.outcome, PacketOutcome::Refused { .. }) {
            self.sent_an_error();
        }
        for label in &chosen.counts {
            *trial.expected.entry(label).or_default() += 1;
        }
        let then = chosen.then.clone();
        trial.model.learn(&packet, then);
        Ok(())
    }

    /// By XDP, if requested and present, and by TC if XDP left it alone.
    fn through(
        &self,
        input: &[u8],
        interface: &str,
        is_ingress: bool,
        by_xdp: bool,
        flags: u32,
    ) -> Result<(ProgramOutcome, At)> {
        let at = match (is_pod(interface), is_ingress) {
            (true, true) => At::PodIngress,
            (true, false) => At::PodEgress,
            (false, true) => At::UplinkIngress,
            (false, false) => At::UplinkEgress,
        };
        if by_xdp && at == At::UplinkIngress {
            let outcome = self.program(At::Xdp, interface, input, 0)?;
            if outcome.verdict != Verdict::Pass {
                return Ok((outcome, At::Xdp));
            }
            ensure!(outcome.octets == input, "XDP hands up a packet that it has changed");
        }
        Ok((self.program(at, interface, input, flags)?, at))
    }

    fn program(&self, at: At, interface: &str, input: &[u8], flags: u32) -> Result<ProgramOutcome> {
        let ran = self.node.kernel.run(at, interface, 0, input, flags).context("BPF_PROG_TEST_RUN")?;
        let verdict = match (at, ran.verdict) {
            (At::Xdp, 2) | (_, -1) => Verdict::Pass,
            (At::Xdp, 1) => Verdict::Drop,
            (At::Xdp, 3) => Verdict::Transmit,
            (At::Xdp, 4) | (_, 7) => Verdict::Redirect,
            (_, 2) => Verdict::Drop,
            (_, code) => bail!("verdict {code}"),
        };
        Ok(ProgramOutcome { verdict, octets: ran.packet })
    }

    /// The result among those that look alike. If they began different flows, the record decides.
    fn one_of<'a>(&self, allowed: &[&'a Possible], client: Tuple) -> Option<&'a Possible> {
        let begins = allowed.iter().any(|p| matches!(p.then, Then::Begin(..)));
        if allowed.len() < 2 || !begins {
            return allowed.first().copied();
        }
        let records = self.node.records().ok()?;
        let record = records.iter().find(|r| {
            (r.direction, r.from, r.to, r.proto) == ("forward", client.src, client.dst, number(client.proto))
        });
        let is_recorded = |p: &&&Possible| match (&p.then, record) {
            (Then::Begin(flow, _), Some(r)) => {
                (flow.backend.src, flow.backend.dst) == (r.becomes_from, r.becomes_to)
            }
            (Then::Begin(..), None) => false,
            _ => true,
        };
        allowed.iter().find(is_recorded).copied()
    }

    fn sent_an_error(&mut self) {
        let tick = coarse_ns() >> 30;
        let [last, this] = &mut self.errors;
        if this.0 != tick {
            *last = if this.0 + 1 == tick { *this } else { (tick, 0) };
            *this = (tick, 0);
        }
        this.1 += 1;
    }

    fn counters(&self) -> Counts {
        self.node.kernel.counters()
    }

    fn compare_counters(&self, trial: &Trial<'_>) -> Result<()> {
        let mut moved = difference(&self.counters(), &trial.before);
        // Whether a missing record is made again depends on the clock.
        moved.remove(Counter::FlowTwinRestored.label());
        ensure!(moved == trial.expected, "counters\n want {:?}\n got  {moved:?}", trial.expected);
        Ok(())
    }
}

/// The sender of an ICMP error, and the packet it is about.
struct Complaint {
    by: Direction,
    shape: Shape,
    octets: usize,
    is_router: bool,
}

/// A running case.
struct Trial<'a> {
    case: &'a Case,
    model: Model,
    /// Nanoseconds by which the clock was advanced.
    aged: i64,
    expected: Counts,
    before: Counts,
}

impl Trial<'_> {
    fn tell_time(&mut self) {
        self.model.now = (coarse_ns() as i64 + self.aged) / 1_000_000;
    }

    /// The backend of a client's flow.
    fn backend_of(&self, client: Tuple) -> Option<SocketAddr> {
        self.model.memory.flows.iter().rev().find(|f| f.client == client).map(|f| f.backend.dst)
    }

    /// The packet of a flow's backend, and where it is seen; `None` if the flow has no backend.
    fn answer(&self, flow: usize, delivery: Delivery) -> Option<(Tuple, Seen)> {
        let Flow { interface, tuple } = self.case.flows[flow];
        let known = self.model.memory.flows.iter().rev().find(|f| f.client == tuple)?;
        let mut answer = known.backend.swapped();
        let seen = match (known.reply_hook, known.exit) {
            (ReplyHook::PodEgress | ReplyHook::UplinkEgress, _) => Seen::Leaving(interface),
            (ReplyHook::Ingress, ExitKind::Hairpin) => Seen::Arriving(interface),
            (ReplyHook::Ingress, ExitKind::Stack | ExitKind::Redirect) => {
                // A neighbor on the bridge answers by its own port.
                let route = network::route(answer.src.ip())?;
                Seen::Arriving(if route.interface == "cni0" { "port1" } else { route.interface })
            }
        };
        if known.wildcard_source && delivery.elsewhere {
            let other =
                network::at(network::NODE[usize::from(interface.len() % 3 == 0)], answer.src.is_ipv4());
            answer.src.set_ip(other);
        }
        Some((answer, seen))
    }
}

const fn number(proto: Proto) -> u8 {
    match proto {
        Proto::Tcp => 6,
        Proto::Udp => 17,
        Proto::Sctp => 132,
        Proto::Icmp => 1,
    }
}

fn difference(after: &Counts, before: &Counts) -> Counts {
    let delta = |(label, value): (&&'static str, &u64)| (*label, value - before.get(label).unwrap_or(&0));
    after.iter().map(delta).filter(|(_, moved)| *moved != 0).collect()
}
