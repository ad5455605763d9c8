//! Replaces this process by a program of svc-tests, with the privileges that it needs.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};

use crate::privilege::Privilege;
use crate::{build, cache, project};

/// The user's environment variables, which sudo would remove.
const PASSED_ON: [&str; 2] = ["SVC_CLUSTER_NAME", "SVC_PATIENCE"];

pub type Variables = Vec<(&'static str, OsString)>;

/// Finds the privileges. Called first, so that a missing privilege is reported before minutes of building.
pub fn privilege() -> Result<Privilege> {
    let privilege = Privilege::find();
    ensure!(
        privilege != Privilege::None,
        "namespaces, mounts and programs in the kernel need root: become root, or install sudo"
    );
    Ok(privilege)
}

/// Does not return on success: the program replaces this process, so that it handles Ctrl-C itself.
pub fn become_program(
    privilege: Privilege,
    program: &str,
    mut variables: Variables,
    words: &[OsString],
) -> Result<()> {
    let path = build::program("svc-tests", program, &[])?;
    variables.extend(PASSED_ON.into_iter().filter_map(|name| Some((name, env::var_os(name)?))));
    variables.push(("SVC_CACHE", cache::dir()?.into()));
    variables.push(("CARGO_TARGET_DIR", project::target_dir().into()));
    let error = privilege.command(&path, &variables).args(words).exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}
