//! The program behind `cargo xtask bench control-plane`; xtask builds it, and starts it with the privileges it needs.

use clap::Parser;
use svc_tests::{agent, scale};

#[derive(Parser)]
#[command(about = "Measure the control plane with many Services")]
struct Cli {
    #[command(flatten)]
    args: scale::Args,
}

fn main() -> anyhow::Result<()> {
    agent::maybe_run();
    scale::main(&Cli::parse().args)
}
