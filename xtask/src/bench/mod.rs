//! `cargo xtask bench`: measures the datapath, the control plane or whole requests, each into its own part of docs/performance.md.

mod control_plane;
mod datapath;
mod page;
mod paths;

use anyhow::Result;
use clap::Subcommand;

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
