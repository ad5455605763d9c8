//! The chaos tier: connections of every kind go on while one thing after another goes wrong on the nodes.
//!
//! `cargo xtask test chaos --minutes N` gives each adversary its share of that time.

mod adversaries;
mod adversary;
mod streams;
mod table;

use std::env;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::Arguments;
use svc_tests::{agent, cleanup};

use table::Table;

const MINUTES: &str = "SVC_CHAOS_MINUTES";
/// Time of each adversary, unless minutes are given.
const SHORT: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    agent::maybe_run();
    let arguments = Arguments::from_args();
    let adversaries = adversaries::all();
    let minutes: Option<u32> = env::var(MINUTES).ok().and_then(|minutes| minutes.parse().ok());
    let length =
        minutes.map_or(SHORT, |minutes| Duration::from_mins(minutes.into()) / adversaries.len() as u32);
    let table = Arc::new(Mutex::new(Table::default()));
    let trials = adversaries.into_iter().map(|one| one.trial(length, &table)).collect();
    if !arguments.list {
        cleanup::sweep();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let table = table.lock().unwrap_or_else(PoisonError::into_inner);
    if !table.is_empty() {
        println!("{table}");
    }
    conclusion.exit_code()
}
