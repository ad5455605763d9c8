//! A real cluster of two nodes with svc as its DaemonSet: pods that come and go, daemons that are replaced and killed,
//! traffic that must not notice.

mod daemons;
mod downtime;
mod load;
mod replicas;
mod services;
mod stage;
mod transcript;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use svc_tests::janitor::Janitor;
use svc_tests::{agent, cluster};

use crate::stage::Theatre;

/// What `cargo xtask test` takes for "left out": this machine cannot have a cluster.
const CANNOT: u8 = 77;

fn main() -> ExitCode {
    cluster::maybe_run();
    agent::maybe_run();
    let mut arguments = Arguments::from_args();
    // All stand on one cluster, and some take its daemons away.
    arguments.test_threads = Some(1);
    let theatre = Arc::<Theatre>::default();
    let trials = [services::trials(&theatre), replicas::trials(&theatre), daemons::trials(&theatre)];
    let trials = trials.into_iter().flatten().collect();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let _janitor = match stage::preflight().and_then(|()| Janitor::start()) {
        Ok(janitor) => janitor,
        Err(reason) => {
            eprintln!("left out: {reason:#}");
            return ExitCode::from(CANNOT);
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The cluster goes before the janitor could think that it was left behind.
    drop(theatre);
    conclusion.exit_code()
}
