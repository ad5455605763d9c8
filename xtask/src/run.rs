//! `cargo xtask run`: builds svc and its show without privileges, then becomes the show with them.

#[path = "../../tests/src/show/args.rs"]
mod args;

use std::env;

use anyhow::Result;

pub use args::Args;

use crate::{build, cluster, raised, setup};

/// The program; it is in the tests' package because it uses their harness.
const SHOW: &str = "svc-show";

/// Does not return on success.
pub fn main(args: &Args) -> Result<()> {
    let privilege = raised::privilege()?;
    let variables = if args.cluster {
        cluster::prepare_up()?
    } else {
        setup::for_running()?;
        vec![("SVC_CTL", build::svc_ctl()?.into())]
    };
    // The typed arguments: the show has the same flags, and clap has checked them.
    let words: Vec<_> = env::args_os().skip(2).collect();
    raised::become_program(privilege, SHOW, variables, &words)
}
