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
    let mut cargo = project::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "svc-tests", "--bin", SHOW]);
    project::run(&mut cargo)?;

    let privilege = Privilege::find();
    ensure!(
        privilege != Privilege::None,
        "network namespaces and programs in the kernel need root: become root, or install sudo"
    );
    let target = project::target_dir();
    let variables = [("SVC_CTL", svc_ctl.into()), ("CARGO_TARGET_DIR", target.clone().into())];
    let mut show = privilege.command(&target.join("release").join(SHOW), &variables);
    // As typed: the show has the same flags, and clap has found them good.
    let error = show.args(env::args_os().skip(2)).exec();
    Err(error).with_context(|| format!("cannot start {SHOW}"))
}
