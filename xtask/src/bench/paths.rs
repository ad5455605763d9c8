//! `cargo xtask bench paths`, by the program `svc-paths`.

#[path = "../../../tests/src/paths/args.rs"]
mod args;

use anyhow::Result;

pub use args::Args;

use super::measure;

pub fn main(args: &Args) -> Result<()> {
    let words = ["--rounds".into(), args.rounds.to_string().into()];
    measure(("svc-paths", words), || Ok(Vec::new()), ("paths", args.dry_run))
}
