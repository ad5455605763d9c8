//! The tier of other people's nodes: what a node has besides svc, and what clients meet there without svc, with nft DNAT in
//! its place, and with svc. The cases are listed by number in docs/coexistence.md.

mod addresses;
mod case;
mod change_over;
mod firewall;
mod interfaces;
mod lab;
mod narrow;
mod node_object;
mod ports;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use svc_tests::{agent, janitor};

fn main() -> ExitCode {
    agent::maybe_run();
    let arguments = Arguments::from_args();
    if !arguments.list {
        janitor::sweep();
    }
    let cases = [
        ports::cases(),
        interfaces::cases(),
        addresses::cases(),
        node_object::cases(),
        firewall::cases(),
        narrow::cases(),
    ];
    let trials = cases.into_iter().flatten().map(case::Case::trial).chain([change_over::trial()]).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
