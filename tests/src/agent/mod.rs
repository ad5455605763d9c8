//! Processes of the topology: the running program again, inside a namespace and a cgroup.
//!
//! An agent reads JSON commands from stdin, one per line, and writes one line of result for each to stdout. It ends
//! when its stdin is closed, so it never outlives the test.

mod address;
mod bulk;
mod commands;
mod handle;
mod jobs;
mod probe;
mod protocol;
mod refused;
mod request;
mod resolve;

use std::env;
use std::process;

pub use handle::{Agent, Job};
pub use protocol::{Answer, Moment, NamedServer, Probe, Refusal, Report, Sockets, Tried, Via};
pub use request::LIMIT;

use crate::cleanup;

/// The agent's name. If set, the program is an agent.
const ENV: &str = "SVC_TESTS_AGENT";

/// Every `main` that uses the harness must call this first; in an agent it does not return.
pub fn maybe_run() {
    if env::var_os(ENV).is_some() {
        process::exit(i32::from(commands::stdin().is_err()));
    }
    if let Ok(owner) = env::var(cleanup::ENV) {
        cleanup::run(&owner);
        process::exit(0);
    }
}
