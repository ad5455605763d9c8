//! Arguments of `svc-ctl lb`.

use clap::{Args, Subcommand};

use super::{Output, RunDir};

#[derive(Args, Debug)]
pub struct LbArgs {
    #[command(flatten)]
    pub run_dir: RunDir,
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    pub output: Output,
    #[command(subcommand)]
    pub command: Option<LbCommand>,
}

#[derive(Debug, Subcommand)]
pub enum LbCommand {
    /// Show the node that would answer for each address if a node were gone. Nothing is changed.
    Simulate {
        /// The node.
        #[arg(long, value_name = "NODE")]
        without: String,
    },
}
