//! The API server as an adversary: a real control plane, the real daemon on a node, real sockets that must not notice.

mod case;
mod chart;
mod endpoints;
mod link;
mod objects;
mod plane;
mod relay;
mod restart;
mod rights;
mod server;
mod services;
mod stage;
mod theatre;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use svc_tests::{agent, janitor};

use crate::theatre::Theatre;

/// Cases mostly wait, so more of them than processors run at once.
const THREADS: usize = 6;

fn main() -> ExitCode {
    agent::maybe_run();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    if !arguments.list {
        janitor::sweep();
    }
    libtest_mimic::run(&arguments, trials(&Arc::default())).exit_code()
}

/// The longest first; between the others those of which only one can run at a time.
fn trials(theatre: &Arc<Theatre>) -> Vec<Trial> {
    let mut one_at_a_time = server::trials(theatre).into_iter();
    let others = [
        chart::trials(theatre),
        link::trials(theatre),
        rights::trials(theatre),
        restart::trials(theatre),
        endpoints::trials(theatre),
        services::trials(theatre),
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
