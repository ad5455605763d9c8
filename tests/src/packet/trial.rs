//! Runs rows: each family, transport and hook of a row is one case.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use svc_common::abi::{Counter, ServiceCounters};
use svc_ctl::dataplane::load::Features;

use super::affinity::AffinityEntry;
use super::error::{self, compare};
use super::flow::{Flow, Line};
use super::hash;
use super::kernel;
use super::lab::Lab;
use super::place::Family;
use super::row::{At, Expected, Problem, Row, Step};
use super::run::CHECKSUM_COMPLETE;
use super::tagged::untagged;
use super::tunnel::ETH;
use super::wire::{CANDIDATES, Case, L4, Packet, endpoint, number};

/// The lab, made by the first case.
pub type Shared = Arc<Mutex<Option<Result<Lab>>>>;

/// One trial per case. Cases at TC run again as from a card that sums the whole packet (CHECKSUM_COMPLETE): the
/// kernel then checks that the program updated that sum.
pub fn trials(row: &Row, shared: &Shared) -> Vec<Trial> {
    let is_outside = row.steps.iter().any(|step| step.at == At::Outside);
    let ways: &[Option<At>] = if is_outside { &[Some(At::UplinkIngress), Some(At::Xdp)] } else { &[None] };
    // Linux 6.16 has the flag; older kernels cannot run this.
    let is_sum_checked = Features::detect().csum_ipv6_flag;
    let mut trials = Vec::new();
    for family in [Family::V4, Family::V6] {
        if row.why_one_family.is_some_and(|(only, _)| only != family) {
            continue;
        }
        for l4 in row.transports() {
            for way in ways {
                let row = row.at(*way);
                let hook = way.map_or(String::new(), |at| format!(" {}", at.program()));
                let can_be_summed = is_sum_checked && row.steps.iter().all(Step::keeps_the_sum);
                for flags in if can_be_summed { &[0, CHECKSUM_COMPLETE][..] } else { &[0] } {
                    let (row, shared, flags) = (row.clone(), Arc::clone(shared), *flags);
                    let sum = if flags == 0 { "" } else { ", summed by the card" };
                    let name = format!("{} [{family:?} {l4:?}{hook}{sum}]", row.name);
                    trials.push(Trial::test(name, move || {
                        run(&row, family, l4, flags, &shared).map_err(|err| format!("{err:#}").into())
                    }));
                }
            }
        }
    }
    trials
}

fn run(row: &Row, family: Family, l4: L4, flags: u32, shared: &Shared) -> Result<()> {
    let case = Case { family, l4, snat: [0; CANDIDATES] };
    let case = Case { snat: snat_ports(row, case), ..case };
    with_lab(shared, |lab| run_within_a_tick(row, case, lab, flags))
}

/// The lab for one trial, whatever the previous one left in it.
pub fn with_lab(shared: &Shared, trial: impl FnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    let mut guard = shared.lock().unwrap_or_else(PoisonError::into_inner);
    match guard.get_or_insert_with(Lab::new) {
        Ok(lab) => trial(lab),
        Err(error) => bail!("setting up the lab: {error:#}"),
    }
}

impl Row {
    /// The row at one of the hooks of `Outside`.
    fn at(&self, way: Option<At>) -> Self {
        let mut row = self.clone();
        for step in &mut row.steps {
            if let (At::Outside, Some(at)) = (step.at, way) {
                step.at = at;
            }
        }
        row
    }
}

impl Step {
    /// The kernel can check the sum: at TC, for a frame that stays the same packet and has a checksum to update.
    fn keeps_the_sum(&self) -> bool {
        let has_sum = self.at.is_tc() && !self.at.is_tunnel();
        has_sum && !matches!(self.becomes, Expected::Icmp(..)) && !self.packet.has_no_checksum()
    }
}

/// Stamps count ticks, so a row that crosses a tick is run again.
fn run_within_a_tick(row: &Row, case: Case, lab: &mut Lab, flags: u32) -> Result<()> {
    loop {
        let begun = kernel::now();
        let outcome = run_once(row, case, lab, flags);
        if kernel::now() == begun {
            return outcome;
        }
    }
}

fn run_once(row: &Row, case: Case, lab: &mut Lab, flags: u32) -> Result<()> {
    lab.set_up(row, case).context("writing the tables")?;
    let outcome = run_steps(row, case, lab, flags);
    lab.end_migration()?;
    outcome
}

fn run_steps(row: &Row, case: Case, lab: &mut Lab, flags: u32) -> Result<()> {
    let entry_totals = lab.entry_totals(case.family)?;
    let _sockets =
        row.sockets.iter().map(|socket| socket.open(case)).collect::<Result<Vec<_>>>().context("a socket")?;
    for (i, step) in row.steps.iter().enumerate() {
        take(step, case, lab, flags)
            .with_context(|| format!("step {}: {:?} {}", i + 1, step.at, step.interface))?;
    }
    check_flows("flow records", &row.after, &lab.flows(case.family)?, case, lab)?;
    check_flows("carried records", &row.carried_after, &lab.carried(case.family)?, case, lab)?;
    lab.entry_totals(case.family)?.check_since(&entry_totals, row.entries)?;
    let mut want: Vec<String> = row.affinity_after.iter().map(AffinityEntry::to_text).collect();
    let mut got = lab.affinity(case.family)?;
    want.sort();
    got.sort();
    ensure!(want == got, "affinity\n want {want:?}\n got  {got:?}");
    Ok(())
}

fn check_flows(what: &str, want: &[Flow], got: &[Line], case: Case, lab: &Lab) -> Result<()> {
    let now = kernel::now();
    let mut want: Vec<String> = want.iter().flat_map(|flow| to_text(flow, case, now, lab)).collect();
    let mut got: Vec<String> = got.iter().map(|line| line.to_text(now)).collect();
    want.sort();
    got.sort();
    ensure!(want == got, "{what}\n want {}\n got  {}", want.join("\n      "), got.join("\n      "));
    Ok(())
}

fn to_text(flow: &Flow, case: Case, now: u32, lab: &Lab) -> Vec<String> {
    let lines = flow.records(case, now, &|name| lab.kernel.ifindex(name));
    lines.iter().map(|line| line.to_text(now)).collect()
}

fn take(step: &Step, case: Case, lab: &Lab, flags: u32) -> Result<()> {
    let wire = |packet: &Packet| packet.bytes(case, step.interface, step.at.is_ingress());
    // The frame as the program sees it.
    let bytes = |packet: &Packet| match step.at {
        at if at.is_tunnel() => wire(packet).split_off(ETH),
        at if at.is_tc() => untagged(&wire(packet)).1,
        _ => wire(packet),
    };
    let input = bytes(&step.packet);
    let (counters, service) = (lab.kernel.counters(), lab.service_counters());
    let ran = lab
        .kernel
        .run(step.at, step.interface, step.gso_size, &wire(&step.packet), flags)
        .context("BPF_PROG_TEST_RUN")?;
    let moved = difference(&lab.kernel.counters(), &counters);
    let verdict = verdict(step, ran.verdict);
    let (want_verdict, want) = match &step.becomes {
        Expected::Untouched => ("pass", input.clone()),
        Expected::Drops => ("drop", input.clone()),
        Expected::Passes(packet) => ("pass", bytes(packet)),
        Expected::Redirects(packet) if step.at == At::Xdp && packet.interface() == Some(step.interface) => {
            ("transmit", bytes(packet))
        }
        // A packet of a tunnel gets an Ethernet header before it leaves by another device.
        Expected::Redirects(packet) if step.at.is_tunnel() => ("redirect", wire(packet)),
        Expected::Redirects(packet) => ("redirect", bytes(packet)),
        Expected::Icmp(from, problem) => ("redirect", icmp(&input, step, case, from, *problem, &ran.packet)?),
    };
    let mut want_counters: BTreeMap<&str, u64> = BTreeMap::new();
    for counter in step.counters {
        *want_counters.entry(counter.label()).or_default() += 1;
    }
    ensure!(
        want_verdict == verdict && want_counters == moved,
        "want {want_verdict}, counters {want_counters:?}\n got  {verdict}, counters {moved:?}{}",
        if want == ran.packet { String::new() } else { compare(&want, &ran.packet) }
    );
    ensure!(want == ran.packet, "the packet{}", compare(&want, &ran.packet));
    check_service(step, service, lab.service_counters(), &input, case)
}

fn verdict(step: &Step, code: i32) -> String {
    let known = match (step.at, code) {
        (At::Xdp, 1) => "drop",
        (At::Xdp, 2) => "pass",
        (At::Xdp, 3) => "transmit",
        (At::Xdp, 4) => "redirect",
        (_, -1) => "pass",
        (_, 2) => "drop",
        (_, 7) => "redirect",
        (_, other) => return format!("code {other}"),
    };
    known.to_owned()
}

/// A translated packet adds one and its octets to its service's counters; the first one of a flow also adds a flow.
fn check_service(
    step: &Step,
    before: ServiceCounters,
    after: ServiceCounters,
    input: &[u8],
    case: Case,
) -> Result<()> {
    let is_new = |c: &Counter| matches!(c, Counter::FlowNew | Counter::FlowMidstream);
    let is_translated =
        step.is_counted && matches!(step.becomes, Expected::Passes(_) | Expected::Redirects(_));
    let ip = if step.at.is_tunnel() { 0 } else { ETH };
    let word = |at: usize| u64::from(input[ip + at]) << 8 | u64::from(input[ip + at + 1]);
    let len = match case.family {
        Family::V4 => word(2),
        Family::V6 => word(4) + 40,
    };
    let want = (
        u64::from(step.counters.iter().any(is_new)),
        u64::from(is_translated),
        if is_translated { len } else { 0 },
    );
    let got = (after.flows - before.flows, after.packets - before.packets, after.bytes - before.bytes);
    ensure!(want == got, "service counters (flows, packets, bytes)\n want {want:?}\n got  {got:?}");
    Ok(())
}

/// The expected error message.
fn icmp(input: &[u8], step: &Step, case: Case, from: &str, problem: Problem, got: &[u8]) -> Result<Vec<u8>> {
    let l4 = if step.packet.l4 == L4::Either { case.l4 } else { step.packet.l4 };
    let (from, _) = endpoint(&format!("{from}:0"), case);
    let (to, _) = step.packet.source(case);
    let answer = error::IcmpError { from, to, l4, problem };
    answer.to_octets(input, got)
}

/// The client's candidates for a source port, in order.
fn snat_ports(row: &Row, case: Case) -> [u16; CANDIDATES] {
    let client = match (row.client, row.steps.first()) {
        (Some(client), _) => endpoint(client, case),
        (None, Some(step)) => step.packet.source(case),
        (None, None) => return case.snat,
    };
    let mut ports = hash::snat_ports(client, number(case.l4, case.family));
    std::array::from_fn(|_| ports.next().unwrap_or_default())
}

fn difference(
    after: &BTreeMap<&'static str, u64>,
    before: &BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    let delta = |(label, value): (&&'static str, &u64)| (*label, value - before.get(label).unwrap_or(&0));
    after.iter().map(delta).filter(|(_, moved)| *moved != 0).collect()
}
