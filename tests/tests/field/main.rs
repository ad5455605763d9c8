//! The tier field: other software on a node, and its clients' results without a proxy, with nft DNAT as control, and
//! with svc. docs/coexistence.md lists the cases by number.

mod addresses;
mod before;
mod by_source;
mod case;
mod change_over;
mod devices;
mod firewall;
mod injected;
mod interfaces;
mod lab;
mod moved;
mod narrow;
mod neighbors;
mod networks;
mod node_object;
mod outgoing;
mod page;
mod ports;
mod reload;
mod udp;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use svc_tests::{agent, cleanup};

fn main() -> ExitCode {
    agent::maybe_run();
    let arguments = Arguments::from_args();
    if !arguments.list {
        cleanup::sweep();
    }
    let cases = [
        ports::cases(),
        interfaces::cases(),
        addresses::cases(),
        node_object::cases(),
        firewall::cases(),
        narrow::cases(),
        neighbors::cases(),
        by_source::cases(),
        outgoing::cases(),
        networks::cases(),
        udp::cases(),
        reload::cases(),
        injected::cases(),
        moved::cases(),
        devices::cases(),
    ];
    let cases: Vec<case::Case> = cases.into_iter().flatten().collect();
    let others = [change_over::trial(), page::trial(&cases)];
    let trials = cases.into_iter().map(case::Case::trial).chain(others).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
