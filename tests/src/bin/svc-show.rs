//! The program behind `cargo xtask run`; xtask builds it, and starts it with the privileges it needs.

use clap::Parser;
use svc_tests::{agent, cluster, show};

#[derive(Parser)]
#[command(about = "Balance real traffic and show who answers")]
struct Cli {
    #[command(flatten)]
    args: show::Args,
}

fn main() -> anyhow::Result<()> {
    agent::maybe_run();
    cluster::maybe_run();
    show::main(&Cli::parse().args)
}
