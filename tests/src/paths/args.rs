//! The flags of `cargo xtask bench paths`; xtask reads this same file and hands them on.

/// Measure requests of real sockets by each path through the node
#[derive(clap::Args, Clone, Debug)]
#[group(id = "paths")]
pub struct Args {
    /// Rounds over all paths and cases
    #[arg(long, default_value_t = 40)]
    pub rounds: u32,
    /// Print the table instead of writing it into docs/performance.md
    #[arg(long)]
    pub dry_run: bool,
}
