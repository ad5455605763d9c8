//! The flags of `cargo xtask run`; xtask reads this same file and hands them on.

use std::path::PathBuf;

/// Balance real HTTP and UDP traffic between network namespaces and show who answers
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Do it with kubectl and pods of a real cluster: the one that is up with svc in it, or one for the show alone
    #[arg(long)]
    pub cluster: bool,
    /// Leave everything up afterwards and print commands to try by hand; Ctrl-C ends it
    #[arg(long)]
    pub keep: bool,
    /// How long the show goes on
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
    /// Write the numbers as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the show as an animated picture (SVG)
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// Write node1's metrics in the meantime as plots (SVG); not with --cluster
    #[arg(long, value_name = "FILE", conflicts_with = "cluster")]
    pub plots: Option<PathBuf>,
}
