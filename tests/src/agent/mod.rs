//! Owns the processes of the topology: the running program again, inside a namespace and a cgroup.
//!
//! An agent obeys one-line JSON commands on stdin and answers each with one line on stdout. It ends with its
//! stdin, so nothing of it outlives the test.

mod bulk;
mod handle;
mod jobs;
mod obey;
mod probe;
mod protocol;
mod refused;
mod request;
mod resolve;

use std::env;
use std::process;

pub use handle::{Agent, Job};
pub use protocol::{Answer, Named, Probe, Refusal, Report, Tried, Via};
pub use request::LIMIT;

use crate::janitor;

/// The agent's name; set, it makes the program an agent.
const ENV: &str = "SVC_TESTS_AGENT";

/// Call this first in every `main` that uses the harness: in an agent it does not return.
pub fn maybe_run() {
    if env::var_os(ENV).is_some() {
        process::exit(i32::from(obey::stdin().is_err()));
    }
    if let Ok(owner) = env::var(janitor::ENV) {
        janitor::run(&owner);
        process::exit(0);
    }
}
