//! `cargo xtask bench control-plane`: builds svc-ctl and the measuring program `svc-scale`, and runs the latter with
//! privileges.

#[expect(dead_code, reason = "svc-scale reads what is typed; here it is only found good")]
#[path = "../../../tests/src/scale/args.rs"]
mod args;

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Result, bail};

pub use args::Args;

use super::page;
use crate::components::{self, CONTROL_PLANE};
use crate::{build, project, raised, setup};

const PROGRAM: &str = "svc-scale";

pub fn main(args: &Args) -> Result<()> {
    let privilege = raised::privilege()?;
    setup::for_running()?;
    // The user may measure another svc-ctl than that of this source.
    let svc_ctl = match std::env::var_os("SVC_CTL") {
        Some(given) => given,
        None => build::svc_ctl()?.into(),
    };
    let target = project::target_dir().into();
    let mut variables: Vec<(&str, OsString)> = vec![("SVC_CTL", svc_ctl), ("CARGO_TARGET_DIR", target)];
    if args.against.is_some() || args.real_api_server {
        variables.push(("SVC_CLUSTER_BIN", components::programs(&[CONTROL_PLANE])?.link()?.into()));
    }
    let program = build::program("svc-tests", PROGRAM, &[])?;
    // The typed arguments after `bench control-plane`: svc-scale has the same flags.
    let words = std::env::args_os().skip(3);
    let output = privilege.command(&program, &variables).args(words).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{PROGRAM} failed ({})", output.status);
    }
    page::publish("control-plane", &String::from_utf8(output.stdout)?, args.dry_run)
}
