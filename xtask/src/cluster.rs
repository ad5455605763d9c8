//! `cargo xtask cluster` and `cargo xtask conformance`: builds what a cluster is made of without privileges, then becomes
//! `svc-cluster` with them.

#[expect(dead_code, reason = "svc-cluster reads what is typed; here it is only found good")]
#[path = "../../tests/src/cluster/args.rs"]
mod args;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};

pub use args::{Command, Conformance};

use crate::components::{CONFORMANCE, CONTROL_PLANE, DNS, Module, NODES};
use crate::image::cluster::{self as images, Wanted};
use crate::privilege::Privilege;
use crate::{build, cache, components, project, setup};

/// The program, in the package of the tests, whose harness it stands on.
const PROGRAM: &str = "svc-cluster";

/// Does not return when all goes well.
pub fn main(command: &Command) -> Result<()> {
    // Asked before minutes of building.
    let privilege = privileged()?;
    let variables = match command {
        Command::Up(_) => prepare(&[CONTROL_PLANE, NODES, DNS], Wanted::Dns)?,
        Command::Conformance(checked) => return conformance(checked),
        Command::Down | Command::Status | Command::Shell(_) | Command::Kubectl { .. } => {
            vec![("SVC_CLUSTER_BIN", project::target_dir().join("cluster/bin").into())]
        }
    };
    become_svc_cluster(privilege, variables)
}

/// Does not return when all goes well.
pub fn conformance(_checked: &Conformance) -> Result<()> {
    let privilege = privileged()?;
    let sets = [CONTROL_PLANE, NODES, DNS, CONFORMANCE];
    become_svc_cluster(privilege, prepare(&sets, Wanted::Conformance)?)
}

fn privileged() -> Result<Privilege> {
    let privilege = Privilege::find();
    ensure!(
        privilege != Privilege::None,
        "namespaces, mounts and programs in the kernel need root: become root, or install sudo"
    );
    Ok(privilege)
}

/// Builds all that a cluster needs, and says where it is in the variables by which `svc-cluster` finds it.
pub fn prepare(sets: &[&[Module]], wanted: Wanted) -> Result<Vec<(&'static str, OsString)>> {
    setup::for_running()?;
    let programs = components::programs(sets)?;
    let images = images::write(wanted, &programs)?;
    Ok(vec![
        ("SVC_CLUSTER_BIN", programs.link()?.into()),
        ("SVC_CLUSTER_IMAGES", images.into()),
        ("SVC_CTL", build::svc_ctl()?.into()),
    ])
}

/// The words are those that were typed, without the task's own name where `svc-cluster` has none like it.
fn become_svc_cluster(privilege: Privilege, mut variables: Vec<(&'static str, OsString)>) -> Result<()> {
    let program = build::program("svc-tests", PROGRAM)?;
    // What the user says by the environment; sudo would keep it from the program.
    let said = ["SVC_CLUSTER_NAME", "SVC_PATIENCE"];
    variables.extend(said.into_iter().filter_map(|name| Some((name, env::var_os(name)?))));
    variables.push(("SVC_CACHE", cache::dir()?.into()));
    variables.push(("CARGO_TARGET_DIR", project::target_dir().into()));
    let words: Vec<_> = env::args_os().skip(1).collect();
    let words = words.strip_prefix(&[OsString::from("cluster")]).unwrap_or(&words);
    let error = privilege.command(&program, &variables).args(words).exec();
    Err(error).with_context(|| format!("cannot start {PROGRAM}"))
}
