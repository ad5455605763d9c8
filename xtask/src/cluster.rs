//! `cargo xtask cluster` and `cargo xtask conformance`: builds the parts of a cluster without privileges, then
//! becomes `svc-cluster` with them.

#[expect(dead_code, reason = "svc-cluster parses the typed flags; here they are only checked")]
#[path = "../../tests/src/cluster/args.rs"]
mod args;

use std::env;
use std::ffi::OsString;

use anyhow::Result;

pub use args::{Command, Conformance};

use crate::components::{CONFORMANCE, CONTROL_PLANE, DNS, HELM, Module, NODES};
use crate::image::cluster::{self as images, ImageSet};
use crate::privilege::Privilege;
use crate::raised::{self, Variables};
use crate::{build, components, project, setup};

/// The program; it is in the tests' package because it uses their harness.
const PROGRAM: &str = "svc-cluster";

/// Does not return on success.
pub fn main(command: &Command) -> Result<()> {
    let privilege = raised::privilege()?;
    let variables = match command {
        Command::Up(_) => prepare_up()?,
        Command::Conformance(checked) => return conformance(checked),
        Command::Down | Command::Status | Command::Shell(_) | Command::Kubectl { .. } => {
            vec![("SVC_CLUSTER_BIN", project::target_dir().join("cluster/bin").into())]
        }
    };
    become_svc_cluster(privilege, variables)
}

/// Does not return on success.
pub fn conformance(_checked: &Conformance) -> Result<()> {
    let privilege = raised::privilege()?;
    let sets = [CONTROL_PLANE, NODES, DNS, HELM, CONFORMANCE];
    become_svc_cluster(privilege, prepare(&sets, ImageSet::Conformance)?)
}

/// Everything that `cluster up` needs.
pub fn prepare_up() -> Result<Variables> {
    prepare(&[CONTROL_PLANE, NODES, DNS, HELM], ImageSet::Dns)
}

/// Builds everything that a cluster needs, and returns the environment variables with the paths for `svc-cluster`.
pub fn prepare(sets: &[&[Module]], wanted: ImageSet) -> Result<Variables> {
    setup::for_running()?;
    let programs = components::programs(sets)?;
    let images = images::write(wanted, &programs)?;
    Ok(vec![
        ("SVC_CLUSTER_BIN", programs.link()?.into()),
        ("SVC_CLUSTER_IMAGES", images.into()),
        ("SVC_CTL", build::svc_ctl()?.into()),
    ])
}

/// Passes the typed arguments on, without the task's name if `svc-cluster` has no such command.
fn become_svc_cluster(privilege: Privilege, variables: Variables) -> Result<()> {
    let words: Vec<_> = env::args_os().skip(1).collect();
    let words = words.strip_prefix(&[OsString::from("cluster")]).unwrap_or(&words);
    raised::become_program(privilege, PROGRAM, variables, words)
}
