//! `cargo xtask`: the only entry point that a person needs. This file only names the tasks.

mod bench;
#[path = "../../svc-ctl/build/bpf.rs"]
mod bpf;
mod build;
mod cache;
mod check;
mod cluster;
mod components;
mod debian;
mod dist;
mod executable;
mod file_tree;
mod go;
mod image;
mod privilege;
mod project;
mod raised;
mod run;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, try, test and measure svc", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install requirements of building and testing (system packages as root, tools into target/tools)
    Setup,
    /// Build svc-ctl with its kernel programs, optimised
    Build,
    /// Balance real traffic between network namespaces and show who answers
    Run(run::Args),
    /// Make a Kubernetes cluster of network namespaces with svc, and use it
    Cluster {
        #[command(subcommand)]
        command: cluster::Command,
    },
    /// Run Kubernetes' own tests of Services on such a cluster
    Conformance(cluster::Conformance),
    /// Make the container image of svc, without a docker daemon
    Image(image::Args),
    /// Make all files of a release: program, image, chart, manual, checksums, bill of materials, licences
    Dist(dist::Args),
    /// Run the tests, all or one tier
    Test(test::Args),
    /// Measure the datapath or the control plane and write docs/performance.md
    Bench(bench::Args),
    /// Load every kernel program and print its verified instructions against the budget
    Verify,
    /// Check formatting and lints, as CI does
    Check,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup => setup::main().map(|()| ExitCode::SUCCESS),
        Task::Build => build::main().map(|()| ExitCode::SUCCESS),
        Task::Run(args) => run::main(&args).map(|()| ExitCode::SUCCESS),
        Task::Cluster { command } => cluster::main(&command).map(|()| ExitCode::SUCCESS),
        Task::Conformance(args) => cluster::conformance(&args).map(|()| ExitCode::SUCCESS),
        Task::Image(args) => image::main(&args).map(|()| ExitCode::SUCCESS),
        Task::Dist(args) => dist::main(&args).map(|()| ExitCode::SUCCESS),
        Task::Test(args) => test::main(&args),
        Task::Bench(args) => bench::main(&args).map(|()| ExitCode::SUCCESS),
        Task::Verify => test::main(&test::Args::tier("verify")),
        Task::Check => check::main().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
