//! `cargo xtask test`: every tier of tests, cheap ones first, and one line of totals at the end.

mod cpu;
mod harness;
mod initramfs;
mod kernel;
mod mutants;
mod tier;

use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, bail};

use crate::image::cluster::{self as images, ImageSet};
use crate::privilege::Privilege;
use crate::{build, components, project, setup};
use harness::{Count, Programs, Results, Selection, TestBinary};
use tier::{Runs, TIERS, Tier};

/// Exit code of a run that passed but left out tiers for want of privileges (automake's "skipped").
const EXIT_TIERS_LEFT_OUT: u8 = 77;

#[derive(clap::Args)]
pub struct Args {
    /// Print the tiers with their number of cases, and run nothing
    #[arg(long)]
    list: bool,
    /// Every case: all combinations of the tier net's matrix and not only each pair of its values with each network, every
    /// mutant, every scenario on other kernels
    #[arg(long)]
    all: bool,
    /// Length of the tier chaos, set-up aside (default: 4 seconds for each adversary)
    #[arg(long, requires = "tier")]
    minutes: Option<u32>,
    /// One tier (default: all)
    tier: Option<String>,
    /// Only cases whose name contains this
    #[arg(requires = "tier")]
    filter: Option<String>,
}

impl Args {
    /// All of one tier.
    pub fn tier(name: &str) -> Self {
        Self { list: false, all: false, minutes: None, tier: Some(name.to_owned()), filter: None }
    }
}

/// Result of one tier.
struct TierOutcome {
    tier: &'static Tier,
    count: Count,
    failures: Vec<String>,
    took: Duration,
    cpu: Duration,
    left_out: bool,
}

pub fn main(args: &Args) -> Result<ExitCode> {
    let tiers = tier::chosen(args.tier.as_deref())?;
    let privileged: Vec<_> = tiers.iter().filter(|tier| tier.needs_root()).map(|tier| tier.name).collect();
    let privilege = if args.list || privileged.is_empty() { Privilege::None } else { Privilege::find() };
    if privilege == Privilege::None && !args.list && !privileged.is_empty() {
        eprintln!("neither root nor sudo: these tiers will be left out: {}", privileged.join(", "));
    }
    setup::for_running()?;
    let (binaries, orphans) = harness::build(&tiers)?;
    if args.list {
        let selection = Selection { all: args.all, ..Selection::default() };
        return list(&tiers, &binaries, &selection);
    }
    // Built first: the other build leaves the program at its path.
    let svc_ctl_next =
        if tiers.iter().any(|tier| tier.needs_next) { Some(build::svc_ctl_of_next_layout()?) } else { None };
    let svc_ctl = if tiers.iter().any(|tier| tier.needs_daemon) { Some(build::svc_ctl()?) } else { None };

    let selection = Selection { all: args.all, filter: args.filter.clone(), minutes: args.minutes };
    let session = Session { binaries, privilege, svc_ctl, svc_ctl_next, selection };
    let mut outcomes = Vec::new();
    for group in tiers.chunk_by(|one, next| one.one_core && next.one_core) {
        outcomes.append(&mut session.run_group(group)?);
    }
    privilege.hand_back(&[project::root(), &project::target_dir()])?;
    Ok(report(&outcomes, &orphans))
}

/// Shared by all tiers of a run.
struct Session {
    binaries: Vec<TestBinary>,
    privilege: Privilege,
    svc_ctl: Option<PathBuf>,
    svc_ctl_next: Option<PathBuf>,
    selection: Selection,
}

impl Session {
    /// Runs the tiers side by side, as many as the machine has cores.
    fn run_group(&self, group: &[&'static Tier]) -> Result<Vec<TierOutcome>> {
        let next = AtomicUsize::new(0);
        let worker = || -> Result<Vec<(usize, TierOutcome)>> {
            let mut outcomes = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(tier) = group.get(number) else { return Ok(outcomes) };
                outcomes.push((number, self.run_tier(tier, group.len() > 1)?));
            }
        };
        let workers = thread::available_parallelism().map_or(1, NonZero::get).min(group.len());
        let outcomes = thread::scope(|scope| {
            let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            let ended =
                running.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            ended.collect::<Result<Vec<_>>>()
        })?;
        let mut outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
        outcomes.sort_by_key(|(number, _)| *number);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// The lines of a tier that runs beside others begin with its name.
    fn run_tier(&self, tier: &'static Tier, is_beside: bool) -> Result<TierOutcome> {
        eprintln!("\n== {}: {}", tier.name, tier.what);
        let started = Instant::now();
        let label = if is_beside { format!("{}: ", tier.name) } else { String::new() };
        let ran = match obstacle(tier, self.privilege) {
            // A tier that cannot be prepared has failed; the other tiers still run.
            None => self
                .try_tier(tier, &label)
                .unwrap_or_else(|error| Some(Results::of_failure(format!("{error:#}")))),
            Some(reason) => {
                eprintln!("left out: {reason:#}");
                None
            }
        };
        let left_out = ran.is_none();
        let results = match ran {
            Some(mut results) => {
                if let Some(why) = self.selection.nothing_ran(results.total()) {
                    results.fail(why);
                }
                results
            }
            None => Results::of_skipped(count_cases(tier, &self.binaries, &self.selection)?),
        };
        let (count, took) = (results.total(), started.elapsed());
        Ok(TierOutcome { tier, count, failures: results.failures, took, cpu: results.cpu, left_out })
    }

    /// `None` if the tier left itself out.
    fn try_tier(&self, tier: &Tier, label: &str) -> Result<Option<Results>> {
        let svc_ctl = self.svc_ctl.as_deref().filter(|_| tier.needs_daemon);
        let svc_ctl_next = self.svc_ctl_next.as_deref().filter(|_| tier.needs_next);
        let programs = Programs { svc_ctl, svc_ctl_next, ..prepare(tier)? };
        match (tier.runs, svc_ctl) {
            (Runs::InMachine, Some(svc_ctl)) => {
                return kernel::run(&self.binaries, svc_ctl, &self.selection).map(Some);
            }
            (Runs::AgainstMutants, _) => {
                return mutants::run(&self.binaries, self.privilege, &self.selection).map(Some);
            }
            _ => {}
        }
        let privilege = if tier.runs == Runs::HereAsRoot { self.privilege } else { Privilege::None };
        let mut total = Results::default();
        for binary in self.binaries.iter().filter(|binary| binary.tier == tier.name) {
            let Some(results) = binary.run(privilege, &programs, &self.selection, label)? else {
                return Ok(None);
            };
            total.append(results);
        }
        Ok(Some(total))
    }
}

/// Requirements of a tier that this machine lacks and that cannot be installed.
fn obstacle(tier: &Tier, privilege: Privilege) -> Option<Error> {
    if tier.needs_root() && privilege == Privilege::None {
        return Some(anyhow!("it needs root (or sudo)"));
    }
    let there = match tier.runs {
        Runs::InMachine => setup::for_machine(),
        Runs::Here | Runs::HereAsRoot | Runs::AgainstMutants => components::compilers(tier.components),
    };
    there.err()
}

/// Makes a tier's requirements other than the daemon, and returns their paths.
fn prepare(tier: &Tier) -> Result<Programs<'static>> {
    if tier.components.is_empty() {
        return Ok(Programs::default());
    }
    let programs = components::programs(tier.components)?;
    let images = if tier.needs_images { Some(images::write(ImageSet::Ours, &programs)?) } else { None };
    Ok(Programs { bin: Some(programs.link()?), images, ..Programs::default() })
}

fn list(tiers: &[&'static Tier], binaries: &[TestBinary], selection: &Selection) -> Result<ExitCode> {
    for tier in tiers {
        println!("{:<12} {:>5} cases  {}", tier.name, count_cases(tier, binaries, selection)?, tier.what);
    }
    Ok(ExitCode::SUCCESS)
}

fn count_cases(tier: &Tier, binaries: &[TestBinary], selection: &Selection) -> Result<u64> {
    match tier.runs {
        Runs::InMachine => return kernel::count_cases(binaries, selection),
        Runs::AgainstMutants => return Ok(mutants::count_cases(selection)),
        Runs::Here | Runs::HereAsRoot => {}
    }
    binaries
        .iter()
        .filter(|binary| binary.tier == tier.name)
        .map(|binary| binary.count_cases(selection))
        .sum()
}

/// Prints the failures of all tiers once more, then a line per tier, and the totals.
fn report(outcomes: &[TierOutcome], orphans: &[String]) -> ExitCode {
    for TierOutcome { tier, failures, .. } in outcomes {
        for line in failures.iter().filter(|line| !line.is_empty()) {
            println!("{}: {line}", tier.name);
        }
    }
    println!();
    for TierOutcome { tier, count, took, cpu, left_out, .. } in outcomes {
        let note = if *left_out { "  left out, see above" } else { "" };
        let (took, cpu) = (took.as_secs_f64(), cpu.as_secs_f64());
        println!("{:<12} {count}  {took:>6.1} s, {cpu:>6.1} s of CPU{note}", tier.name);
    }
    for source in orphans {
        println!(
            "{source} was not run: it is named after no tier (net_*.rs, packets/main.rs), see xtask/src/test/tier.rs"
        );
    }
    let mut total = outcomes.iter().fold(Count::default(), |total, outcome| total + outcome.count);
    total.failed += orphans.len() as u64;
    println!("{total}");
    if total.failed > 0 {
        ExitCode::FAILURE
    } else if outcomes.iter().any(|outcome| outcome.left_out) {
        ExitCode::from(EXIT_TIERS_LEFT_OUT)
    } else {
        ExitCode::SUCCESS
    }
}

/// The error for an unknown tier, with the known names.
fn unknown_tier(name: &str) -> Result<Vec<&'static Tier>> {
    let names = TIERS.iter().map(|tier| tier.name).collect::<Vec<_>>();
    bail!("no tier is called {name:?}; there are {}", names.join(", "))
}
