//! The program behind `cargo xtask bench paths`; xtask builds it, and starts it with the privileges it needs.

use clap::Parser;
use svc_tests::{agent, paths};

#[derive(Parser)]
#[command(about = "Measure requests of real sockets by each path")]
struct Cli {
    #[command(flatten)]
    args: paths::Args,
}

fn main() -> anyhow::Result<()> {
    agent::maybe_run();
    paths::main(&Cli::parse().args)
}
