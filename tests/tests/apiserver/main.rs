//! Faults of the API server: a real control plane, the real daemon on a node, and real traffic that must not be
//! disturbed.

mod case;
mod chart;
mod endpoints;
mod failover;
mod fixtures;
mod link;
mod load_balancer;
mod metallb;
mod node_life;
mod objects;
mod plane;
mod relay;
mod restart;
mod rights;
mod server;
mod services;
mod testbed;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use svc_tests::{agent, cleanup};

use crate::fixtures::Fixtures;

/// Cases mostly wait, so more of them than CPUs run at once.
const THREADS: usize = 6;

fn main() -> ExitCode {
    agent::maybe_run();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    if !arguments.list {
        cleanup::sweep();
    }
    libtest_mimic::run(&arguments, trials(&Arc::default())).exit_code()
}

/// The longest first. Those that must run alone are spread between the others.
fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let mut one_at_a_time = server::trials(fixtures).into_iter();
    let others = [
        chart::trials(fixtures),
        link::trials(fixtures),
        failover::trials(),
        load_balancer::trials(),
        metallb::trials(),
        rights::trials(fixtures),
        node_life::trials(fixtures),
        restart::trials(fixtures),
        endpoints::trials(fixtures),
        services::trials(fixtures),
    ];
    let mut trials = Vec::new();
    for trial in others.into_iter().flatten() {
        trials.push(trial);
        if trials.len() % 3 == 0 {
            trials.extend(one_at_a_time.next());
        }
    }
    trials.extend(one_at_a_time);
    trials
}
