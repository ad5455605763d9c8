//! A real cluster of two nodes with svc as its DaemonSet: pods that come and go, daemons that are replaced and
//! killed, traffic that must not be disturbed.

mod chart;
mod check;
mod daemons;
mod downtime;
mod load;
mod replicas;
mod services;
mod testbed;
mod transcript;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use svc_tests::cleanup::Cleanup;
use svc_tests::{agent, cluster};

use crate::testbed::Fixtures;

/// Exit code for `cargo xtask test` if this machine cannot run a cluster ("left out").
const CANNOT: u8 = 77;

fn main() -> ExitCode {
    cluster::maybe_run();
    agent::maybe_run();
    let mut arguments = Arguments::from_args();
    // All cases use one cluster, and some remove its daemons.
    arguments.test_threads = Some(1);
    let fixtures = Arc::<Fixtures>::default();
    let trials = [
        services::trials(&fixtures),
        check::trials(&fixtures),
        replicas::trials(&fixtures),
        daemons::trials(&fixtures),
        chart::trials(&fixtures),
    ];
    let trials = trials.into_iter().flatten().collect();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let _cleanup = match testbed::preflight().and_then(|()| Cleanup::start()) {
        Ok(cleanup) => cleanup,
        Err(reason) => {
            eprintln!("left out: {reason:#}");
            return ExitCode::from(CANNOT);
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Removed before the child process could take it for a leftover.
    drop(fixtures);
    conclusion.exit_code()
}
