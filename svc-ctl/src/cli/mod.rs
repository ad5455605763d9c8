//! The command line: one subcommand per file.

pub mod args;
mod cleanup;
mod effective;
mod flags;
mod get;
mod output;
mod run;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use args::{Cli, Command};

/// Parses the arguments and runs the command. Errors go to stderr with their causes; usage errors exit with 2.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match &cli.command {
        Command::Run(args) => run::main(args, flags::values(&Cli::command(), &matches)),
        Command::Status(args) => status::main(args),
        Command::Get(args) => get::main(args),
        Command::Cleanup(args) => cleanup::main(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("svc-ctl: {err:#}");
            ExitCode::FAILURE
        }
    }
}
