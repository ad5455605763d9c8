//! The program behind `cargo xtask cluster`, which builds it and raises its privileges.

use std::os::unix::process::CommandExt;

use clap::Parser;
use svc_tests::cluster::args::{Cli, Command};
use svc_tests::cluster::{self, Running, Settings};
use svc_tests::conformance;

fn main() -> anyhow::Result<()> {
    cluster::maybe_run();
    let settings = Settings::lasting()?;
    match Cli::parse().command {
        Command::Up(options) => cluster::up(&settings, &options),
        Command::Down => cluster::down(&settings),
        Command::Status => cluster::status(&Running::open(&settings)?),
        Command::Shell(args) => cluster::shell(&Running::open(&settings)?, &args),
        Command::Conformance(args) => conformance::main(&settings, &args),
        Command::Kubectl { args } => Err(Running::open(&settings)?.kubectl()?.args(args).exec().into()),
    }
}
