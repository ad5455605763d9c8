//! The namespace tier: real packets through real programs, driven by real manifests and the real svc-ctl.

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
    [
        control::trials(),
        cells::trials(arguments, table),
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
    ]
    .into_iter()
    .flatten()
    .collect()
}
