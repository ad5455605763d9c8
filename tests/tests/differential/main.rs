//! The differential tier: random worlds go through svc's plan into the tables, random packets through its programs,
//! and each result must be allowed by the independent model.
//!
//! `SVC_DIFF_PACKETS` is the minimum number of packets, `SVC_DIFF_SEED` the seed of the first case; each case has a
//! seed of its own, printed if it fails. `SVC_DIFF_MUTANT` is an object with broken programs: then the tier passes if
//! it notices.

mod case;
mod examine;
mod flows;
mod fuzz;
mod histogram;
mod node;
mod rng;
mod run;
mod shrink;
mod worlds;

use std::env;
use std::fs;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use svc_tests::packet::kernel;

use rng::Rng;
use run::Runner;

/// Minimum number of compared packets with `SVC_TESTS_ALL`, which `cargo xtask test --all` sets. Enough for the histogram
/// to have packets of each kind.
const PACKETS: u64 = 1_000_000;
/// Without it, one of this many packets and changed frames is compared.
const ONE_OF: u64 = 4;
/// A mutant must be noticed within this number of packets.
const PACKETS_OF_MUTANT: u64 = 50_000;
/// A rule broken in the model must be noticed within this number of packets.
const PACKETS_OF_RULE: u64 = 1_000_000;
/// A case with changed frames has this many.
const FRAMES: u64 = 200_000;
const FRAMES_PER_CASE: u64 = 500;

/// The kernel, made by the first trial.
type Shared = Arc<Mutex<Option<Runner>>>;

/// Rules that are tested by breaking them in the model: each must affect some packet.
const RULES: &[&str] = &[
    "SEM-010", "SEM-012", "SEM-013", "SEM-019", "SEM-021", "SEM-027", "SEM-030", "SEM-046", "SEM-048",
    "SEM-052", "SEM-060", "SEM-061", "SEM-062", "SEM-063", "SEM-064", "SEM-065", "SEM-071", "SEM-072",
    "SEM-073", "SEM-080", "SEM-081", "SEM-083", "SEM-084", "SEM-086", "SEM-090", "SEM-092", "SEM-094",
    "SEM-095", "SEM-108", "SEM-120", "SEM-123", "SEM-124", "SEM-127", "SEM-231", "SEM-232", "SEM-233",
    "SEM-235", "SEM-315",
];

fn main() -> ExitCode {
    // One kernel, one case at a time.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let shared = Shared::default();
    let trial = |name: &str, test: fn(&mut Runner) -> Result<(), String>| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || with_runner(&shared, test).map_err(Failed::from))
    };
    let rule = |rule: &'static str| {
        let shared = Arc::clone(&shared);
        Trial::test(format!("a packet shows whether {rule} holds"), move || {
            with_runner(&shared, |runner| broken_rule_is_noticed(runner, rule)).map_err(Failed::from)
        })
    };
    let trials = if env::var_os("SVC_DIFF_MUTANT").is_some() {
        vec![trial("the model notices that the pipeline is broken", mutant_is_noticed)]
    } else {
        vec![
            trial("kernel and model agree on every packet of random worlds", compare_with_model),
            trial(
                "a frame with octets changed is left alone, dropped, refused or translated whole",
                changed_frames_are_handled,
            ),
        ]
        .into_iter()
        .chain(RULES.iter().map(|name| rule(name)))
        .collect()
    };
    if !arguments.list
        && let Err(error) = kernel::isolate()
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn with_runner(shared: &Shared, test: impl FnOnce(&mut Runner) -> Result<(), String>) -> Result<(), String> {
    let mut guard = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.is_none() {
        let mutant = env::var_os("SVC_DIFF_MUTANT").map(fs::read).transpose();
        let mutant = mutant.map_err(|error| format!("SVC_DIFF_MUTANT: {error}"))?;
        *guard = Some(Runner::new(mutant.as_deref()).map_err(|error| format!("setting up: {error:#}"))?);
    }
    guard.as_mut().map_or(Ok(()), test)
}

/// The part of so many packets that this run compares.
fn part_of(packets: u64) -> u64 {
    if env::var_os("SVC_TESTS_ALL").is_some() { packets } else { packets / ONE_OF }
}

fn compare_with_model(runner: &mut Runner) -> Result<(), String> {
    let (first, packets) = (first_seed()?, number("SVC_DIFF_PACKETS")?.unwrap_or(part_of(PACKETS)));
    eprintln!("seed {first}, at least {packets} packets");
    let started = Instant::now();
    for seed in first.. {
        let case = flows::case(seed);
        if let Err((step, error)) = runner.run(&case) {
            let small = shrink::shrink(case, |case| (0..4).any(|_| runner.run(case).is_err()));
            let last = (0..20).find_map(|_| runner.run(&small).err());
            let (at, why) = last.unwrap_or((step, error));
            return Err(format!("seed {seed}, step {}: {why:#}\nthe case, made small:\n{small}", at + 1));
        }
        if runner.histogram.packets >= packets {
            break;
        }
    }
    eprintln!("{}in {:.1} s", runner.histogram, started.elapsed().as_secs_f64());
    // Not required of a run that the user shortened.
    if packets < PACKETS { Ok(()) } else { enough(&runner.histogram.gaps()) }
}

fn mutant_is_noticed(runner: &mut Runner) -> Result<(), String> {
    for seed in first_seed()?.. {
        if let Err((step, error)) = runner.run(&flows::case(seed)) {
            let packets = runner.histogram.packets;
            eprintln!("noticed after {packets} packets, seed {seed}, step {}: {error:#}", step + 1);
            return Ok(());
        }
        if runner.histogram.packets > PACKETS_OF_MUTANT {
            break;
        }
    }
    Err(format!("{} packets, and nothing was noticed", runner.histogram.packets))
}

fn broken_rule_is_noticed(runner: &mut Runner, rule: &'static str) -> Result<(), String> {
    runner.broken = Some(rule);
    let before = runner.histogram.packets;
    let mut seeds = first_seed()?..;
    let found = loop {
        let sent = runner.histogram.packets - before;
        if seeds.next().is_some_and(|seed| runner.run(&flows::case(seed)).is_err()) {
            break Ok(());
        }
        if sent > PACKETS_OF_RULE {
            break Err(format!("{rule} is broken, and {sent} packets show no difference"));
        }
    };
    runner.broken = None;
    found
}

fn changed_frames_are_handled(runner: &mut Runner) -> Result<(), String> {
    let first = first_seed()?;
    let frames = part_of(FRAMES);
    let cases = frames / FRAMES_PER_CASE;
    eprintln!("seed {first}, {frames} frames");
    for seed in first..first + cases {
        let fuzzed = runner.fuzz(&flows::case(seed), &mut Rng(!seed), FRAMES_PER_CASE as usize);
        fuzzed.map_err(|error| format!("seed {seed}: {error:#}"))?;
    }
    enough(&runner.histogram.gaps_of_frames())
}

fn enough(gaps: &[String]) -> Result<(), String> {
    if gaps.is_empty() { Ok(()) } else { Err(format!("met too seldom:\n{}", gaps.join("\n"))) }
}

fn first_seed() -> Result<u64, String> {
    Ok(number("SVC_DIFF_SEED")?.unwrap_or(1))
}

/// A number from an environment variable.
fn number(name: &str) -> Result<Option<u64>, String> {
    let Some(text) = env::var_os(name) else { return Ok(None) };
    let text = text.to_string_lossy();
    text.parse().map(Some).map_err(|error| format!("{name}={text}: {error}"))
}
