//! The command line: one subcommand per file.

mod apply;
pub mod args;
pub mod check;
mod cleanup;
mod config;
pub mod config_file;
mod effective;
mod filter;
mod flags;
mod get;
mod lb;
mod manual;
mod output;
pub mod run;
mod status;
mod sysdump;
mod top;
mod validate;
mod values;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use args::{Cli, Command};

/// Parses the arguments and runs the command. Errors go to stderr with their causes; usage errors exit with 2.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let matches = command().get_matches_from(&arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match &cli.command {
        Command::Run(args) => run::main(args, &matches, arguments),
        Command::Status(args) => status::main(args),
        Command::Get(args) => return exit(get::main(args)),
        Command::Lb(args) => lb::main(args),
        Command::Config(args) => config::main(args, &command()),
        Command::Cleanup(args) => cleanup::main(args),
        Command::Validate(args) => return exit(validate::main(args)),
        Command::Apply(args) => return exit(apply::main(args)),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { folder } => manual::pages(folder),
        Command::Why(args) => return exit(why::main(args)),
        Command::Top(args) => top::main(args),
        Command::Sysdump(args) => sysdump::main(args),
        Command::Check(args) => return exit(check::main(args)),
    };
    exit(result.map(|()| ExitCode::SUCCESS))
}

fn exit(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(err) => {
            eprintln!("svc-ctl: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// The whole command line, with the flags of kube-proxy that `run` accepts and ignores.
pub fn command() -> clap::Command {
    Cli::command().mut_subcommand("run", |run| run.args(flags::ignored()))
}
