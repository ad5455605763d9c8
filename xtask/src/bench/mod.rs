//! `cargo xtask bench`: measures the datapath, the control plane or whole requests, each into its own part of docs/performance.md.

mod control_plane;
mod datapath;
mod page;
mod paths;

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Result, ensure};
use clap::Subcommand;

use crate::{build, project, raised, setup};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[group(id = "bench")]
pub struct Args {
    #[command(subcommand)]
    bench: Option<Bench>,
    #[command(flatten)]
    datapath: datapath::Args,
}

#[derive(Subcommand)]
enum Bench {
    /// The XDP path beside lower bounds (default)
    Datapath(datapath::Args),
    /// The daemon with up to 100,000 Services
    ControlPlane(control_plane::Args),
    /// Requests of real sockets by each path through the node
    Paths(paths::Args),
}

pub fn main(args: &Args) -> Result<()> {
    match &args.bench {
        None => datapath::main(&args.datapath),
        Some(Bench::Datapath(args)) => datapath::main(args),
        Some(Bench::ControlPlane(args)) => control_plane::main(args),
        Some(Bench::Paths(args)) => paths::main(args),
    }
}

/// Builds svc-ctl and a measuring program of svc-tests, runs the latter with privileges, and publishes its page.
fn measure(
    (program, words): (&str, impl IntoIterator<Item = OsString>),
    more_variables: impl FnOnce() -> Result<Vec<(&'static str, OsString)>>,
    (part, dry_run): (&str, bool),
) -> Result<()> {
    let privilege = raised::privilege()?;
    setup::for_running()?;
    // The user may measure another svc-ctl than that of this source.
    let svc_ctl = match std::env::var_os("SVC_CTL") {
        Some(given) => given,
        None => build::svc_ctl()?.into(),
    };
    let mut variables = vec![("SVC_CTL", svc_ctl), ("CARGO_TARGET_DIR", project::target_dir().into())];
    variables.extend(more_variables()?);
    let built = build::program("svc-tests", program, &[])?;
    let output = privilege.command(&built, &variables).args(words).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{program} failed ({})", output.status);
    page::publish(part, &String::from_utf8(output.stdout)?, dry_run)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_default_bench_is_the_datapath() {
        let parse =
            |words: &[&str]| Cli::try_parse_from([&["bench"], words].concat()).map(|cli| cli.args.bench);
        assert!(matches!(parse(&["--rounds", "3"]), Ok(None)));
        assert!(matches!(parse(&["datapath", "--dry-run"]), Ok(Some(Bench::Datapath(_)))));
        let columns = parse(&["control-plane", "--columns", "100,lb10000", "--against", "kube-proxy"]);
        assert!(matches!(columns, Ok(Some(Bench::ControlPlane(_)))));
        assert!(parse(&["control-plane", "--columns", "many"]).is_err());
    }
}
