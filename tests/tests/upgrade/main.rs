//! The tier upgrade: two builds of svc-ctl, whose tables have different layouts and ABI numbers, take over from each other
//! under load. `SVC_CTL` is this version, `SVC_CTL_NEXT` the one with the next number.

mod kills;
mod streams;
mod testbed;
mod turns;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use svc_tests::{agent, cleanup};

fn main() -> ExitCode {
    agent::maybe_run();
    let arguments = Arguments::from_args();
    if !arguments.list {
        cleanup::sweep();
    }
    let trials = [turns::trials(), kills::trials()].into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
