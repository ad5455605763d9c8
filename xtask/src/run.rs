//! `cargo xtask run`: builds svc and its show without privileges, then becomes the show with them.

#[path = "../../tests/src/show/args.rs"]
mod args;

use std::env;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};

pub use args::Args;

use crate::privilege::Privilege;
use crate::{build, project, setup};

/// The program, in the package of the tests, whose harness it stands on.
const SHOW: &str = "svc-show";

/// Does not return when all goes well: the show takes this process's place, so that Ctrl-C is its own to handle.
pub fn main(_checked: &Args) -> Result<()> {
    setup::for_running()?;
    let svc_ctl = build::svc_ctl()?;
    let show = build::program("svc-tests", SHOW)?;

    let privilege = Privilege::find();
    ensure!(
        privilege != Privilege::None,
        "network namespaces and programs in the kernel need root: become root, or install sudo"
    );
    let variables = [("SVC_CTL", svc_ctl.into()), ("CARGO_TARGET_DIR", project::target_dir().into())];
    let mut show = privilege.command(&show, &variables);
    // As typed: the show has the same flags, and clap has found them good.
    let error = show.args(env::args_os().skip(2)).exec();
    Err(error).with_context(|| format!("cannot start {SHOW}"))
}
