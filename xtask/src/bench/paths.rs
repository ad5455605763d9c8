//! `cargo xtask bench paths`: builds svc-ctl and the measuring program `svc-paths`, and runs the latter with privileges.

#[path = "../../../tests/src/paths/args.rs"]
mod args;

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Result, bail};

pub use args::Args;

use super::page;
use crate::{build, project, raised, setup};

const PROGRAM: &str = "svc-paths";

pub fn main(args: &Args) -> Result<()> {
    let privilege = raised::privilege()?;
    setup::for_running()?;
    // The user may measure another svc-ctl than that of this source.
    let svc_ctl = match std::env::var_os("SVC_CTL") {
        Some(given) => given,
        None => build::svc_ctl()?.into(),
    };
    let target = project::target_dir().into();
    let variables: [(&str, OsString); 2] = [("SVC_CTL", svc_ctl), ("CARGO_TARGET_DIR", target)];
    let program = build::program("svc-tests", PROGRAM, &[])?;
    let rounds = args.rounds.to_string();
    let output = privilege
        .command(&program, &variables)
        .args(["--rounds", &rounds])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("{PROGRAM} failed ({})", output.status);
    }
    page::publish("paths", &String::from_utf8(output.stdout)?, args.dry_run)
}
