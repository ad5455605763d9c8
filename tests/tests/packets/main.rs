//! The packet tier: tables and a packet in; verdict, whole packet, counters and flow records out.

mod affinity;
mod ask;
mod awkward;
mod bypass;
mod carried;
mod cluster;
mod direct;
mod edits;
mod fragments;
mod healing;
mod hooked;
mod maglev;
mod many;
mod next_hop;
mod node_port;
mod played;
mod policy;
mod quoted;
mod refusal;
mod replace;
mod sctp;
mod stale;
mod state;
mod tables;
mod through_stack;
mod tunnel;
mod vlan;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use svc_tests::packet::{kernel, trial};

fn main() -> ExitCode {
    // One lab, one row at a time.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let shared = trial::Shared::default();
    let rows = [
        cluster::rows(),
        next_hop::rows(),
        node_port::rows(),
        policy::rows(),
        quoted::rows(),
        fragments::rows(),
        refusal::rows(),
        sctp::rows(),
        state::rows(),
        direct::rows(),
        affinity::rows(),
        awkward::rows(),
        bypass::rows(),
        maglev::rows(),
        carried::rows(),
        through_stack::rows(),
        tunnel::rows(),
        vlan::rows(),
    ]
    .concat();
    let rows = rows.iter().flat_map(|row| trial::trials(row, &shared));
    let trials = rows
        .chain(played::trials(&shared))
        .chain(stale::trials(&shared))
        .chain(many::trials(&shared))
        .chain(tables::trials())
        .chain(replace::trials())
        .chain(healing::trials())
        .collect();
    if !arguments.list
        && let Err(error) = kernel::isolate()
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
