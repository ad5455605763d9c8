//! The namespace tier: real packets through real programs, driven by real manifests and the real svc-ctl.
//!
//! A run without a filter has each scenario in one network; `SVC_TESTS_ALL`, which `cargo xtask test --all` sets, makes it
//! all of them.

mod affinity;
mod announced;
mod bgp;
mod cells;
mod control;
mod foreign_frames;
mod guards;
mod heal;
mod health;
mod large;
mod live;
mod local_pods;
mod localhost;
mod maglev;
mod mapped;
mod one_port;
mod own_ports;
mod pools;
mod probed;
mod refused;
mod resolvers;
mod restart;
mod sockets;
mod traces;
mod trunk;
mod tunnel;
mod vlan;
mod why;

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};
use svc_tests::matrix::Table;
use svc_tests::{agent, cleanup};

/// Cases mostly wait, so more of them than CPUs run at once.
const THREADS: usize = 4;

fn main() -> ExitCode {
    agent::maybe_run();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&arguments, &Arc::default())).exit_code();
    }
    cleanup::sweep();
    let table = Arc::new(Mutex::new(Table::default()));
    let conclusion = libtest_mimic::run(&arguments, trials(&arguments, &table));
    let table = table.lock().unwrap_or_else(PoisonError::into_inner);
    if !table.is_empty() {
        match table.write() {
            Ok(path) => println!("the table of combinations: {}", path.display()),
            Err(error) => eprintln!("{error:#}"),
        }
    }
    conclusion.exit_code()
}

fn trials(arguments: &Arguments, table: &Arc<Mutex<Table>>) -> Vec<Trial> {
    let all = arguments.filter.is_some() || env::var_os("SVC_TESTS_ALL").is_some();
    let scenarios = [
        control::trials(),
        refused::trials(),
        mapped::trials(),
        maglev::trials(),
        one_port::trials(),
        own_ports::trials(),
        live::trials(),
        local_pods::trials(),
        localhost::trials(),
        large::trials(),
        affinity::trials(),
        heal::trials(),
        sockets::trials(),
        health::trials(),
        probed::trials(),
        resolvers::trials(),
        restart::trials(),
        traces::trials(),
        guards::trials(),
        foreign_frames::trials(),
        vlan::trials(),
        tunnel::trials(),
        announced::trials(),
        bgp::trials(),
        pools::trials(),
        why::trials(),
    ];
    let scenarios = scenarios.into_iter().flatten().collect();
    let scenarios = if all { scenarios } else { in_one_network(scenarios) };
    cells::trials(all, table).into_iter().chain(scenarios).collect()
}

/// Of each scenario that there is with routed and with bridged pods, one of the two, in turn.
fn in_one_network(scenarios: Vec<Trial>) -> Vec<Trial> {
    let anywhere = |scenario: &Trial| scenario.name().replacen("routed", "*", 1).replacen("bridged", "*", 1);
    let mut networks: BTreeMap<String, usize> = BTreeMap::new();
    for scenario in &scenarios {
        *networks.entry(anywhere(scenario)).or_default() += 1;
    }
    let pairs: Vec<_> =
        networks.into_iter().filter(|(_, networks)| *networks == 2).map(|(name, _)| name).collect();
    let is_kept = |scenario: &Trial| match pairs.binary_search(&anywhere(scenario)) {
        Ok(number) => scenario.name().contains(["routed", "bridged"][number % 2]),
        Err(_) => true,
    };
    scenarios.into_iter().filter(is_kept).collect()
}
