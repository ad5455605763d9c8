//! `cargo xtask test`: every tier of tests, in the order of their price, and one line of totals at the end.

mod harness;
mod tier;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::privilege::Privilege;
use crate::{build, project, setup};
use harness::{Count, TestBinary};
use tier::{TIERS, Tier};

/// The run was good as far as it went, but tiers were left out for want of privileges (as automake's "skipped").
const EXIT_TIERS_LEFT_OUT: u8 = 77;

#[derive(clap::Args)]
pub struct Args {
    /// Name the tiers with their number of cases, run nothing
    #[arg(long)]
    list: bool,
    /// One tier; all of them without it
    tier: Option<String>,
    /// Only cases whose name contains this
    #[arg(requires = "tier")]
    filter: Option<String>,
}

impl Args {
    /// All of one tier.
    pub fn tier(name: &str) -> Self {
        Self { list: false, tier: Some(name.to_owned()), filter: None }
    }
}

/// How one tier went.
struct Outcome {
    tier: &'static Tier,
    count: Count,
    took: Duration,
    left_out: bool,
}

pub fn main(args: &Args) -> Result<ExitCode> {
    let tiers = tier::chosen(args.tier.as_deref())?;
    let privileged: Vec<_> = tiers.iter().filter(|tier| tier.needs_root).map(|tier| tier.name).collect();
    let privilege = if args.list || privileged.is_empty() { Privilege::None } else { Privilege::find() };
    if privilege == Privilege::None && !args.list && !privileged.is_empty() {
        eprintln!("neither root nor sudo: these tiers will be left out: {}", privileged.join(", "));
    }
    setup::for_running()?;
    let (binaries, orphans) = harness::build(&tiers)?;
    if args.list {
        return list(&tiers, &binaries);
    }
    let svc_ctl = if tiers.iter().any(|tier| tier.needs_daemon) { Some(build::svc_ctl()?) } else { None };

    let mut outcomes = Vec::new();
    for tier in tiers {
        let started = Instant::now();
        let cases = binaries.iter().filter(|binary| binary.tier == tier.name);
        let left_out = tier.needs_root && privilege == Privilege::None;
        let count = if left_out {
            eprintln!("\n== {}: left out, needs root (or sudo): {}", tier.name, tier.what);
            Count { skipped: listed(cases)?, ..Count::default() }
        } else {
            eprintln!("\n== {}: {}", tier.name, tier.what);
            let privilege = if tier.needs_root { privilege } else { Privilege::None };
            run(cases, privilege, svc_ctl.as_deref(), args.filter.as_deref())?
        };
        outcomes.push(Outcome { tier, count, took: started.elapsed(), left_out });
    }
    privilege.hand_back(&[project::root(), &project::target_dir()])?;
    Ok(report(&outcomes, &orphans))
}

fn list(tiers: &[&'static Tier], binaries: &[TestBinary]) -> Result<ExitCode> {
    for tier in tiers {
        let cases = listed(binaries.iter().filter(|binary| binary.tier == tier.name))?;
        println!("{:<8} {cases:>5} cases  {}", tier.name, tier.what);
    }
    Ok(ExitCode::SUCCESS)
}

fn listed<'a>(binaries: impl Iterator<Item = &'a TestBinary>) -> Result<u64> {
    binaries.map(TestBinary::count_cases).sum()
}

fn run<'a>(
    binaries: impl Iterator<Item = &'a TestBinary>,
    privilege: Privilege,
    svc_ctl: Option<&Path>,
    filter: Option<&str>,
) -> Result<Count> {
    let mut total = Count::default();
    for binary in binaries {
        total = total + binary.run(privilege, svc_ctl, filter)?;
    }
    Ok(total)
}

/// Prints a line per tier and the totals last.
fn report(outcomes: &[Outcome], orphans: &[String]) -> ExitCode {
    println!();
    for Outcome { tier, count, took, left_out } in outcomes {
        let note = if *left_out { "  left out: needs root" } else { "" };
        println!("{:<8} {count}  {:>6.1} s{note}", tier.name, took.as_secs_f64());
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

/// A name that is no tier's, with the names that are.
fn unknown_tier(name: &str) -> Result<Vec<&'static Tier>> {
    let names = TIERS.iter().map(|tier| tier.name).collect::<Vec<_>>();
    bail!("no tier is called {name:?}; there are {}", names.join(", "))
}
