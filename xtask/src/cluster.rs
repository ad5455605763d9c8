//! `cargo xtask cluster`: builds what a cluster is made of without privileges, then becomes `svc-cluster` with them.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};

use crate::components::{self, Module};
use crate::image::cluster::{self as images, Wanted};
use crate::privilege::Privilege;
use crate::{build, cache, project, setup};

/// The program, in the package of the tests, whose harness it stands on.
const PROGRAM: &str = "svc-cluster";

#[derive(clap::Args)]
pub struct Args {
    /// up, down, status, shell NODE, kubectl ...; `up --help` and the like say more
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<OsString>,
}

/// Does not return when all goes well.
pub fn main(args: &Args) -> Result<()> {
    setup::for_running()?;
    let makes_one =
        args.words.first().is_some_and(|word| word == "up") && !args.words.contains(&"--help".into());
    let variables = if makes_one {
        prepare(&[components::CONTROL_PLANE, components::NODES, components::DNS], Wanted::Dns)?
    } else {
        vec![("SVC_CLUSTER_BIN", project::target_dir().join("cluster/bin").into())]
    };
    become_svc_cluster(variables)
}

/// Builds all that a cluster needs, and says where it is in the variables by which `svc-cluster` finds it.
pub fn prepare(sets: &[&[Module]], wanted: Wanted) -> Result<Vec<(&'static str, OsString)>> {
    let programs = components::programs(sets)?;
    let images = images::write(wanted, &programs)?;
    Ok(vec![
        ("SVC_CLUSTER_BIN", programs.link()?.into()),
        ("SVC_CLUSTER_IMAGES", images.into()),
        ("SVC_CTL", build::svc_ctl()?.into()),
    ])
}

/// Does not return when all goes well: the words are those that were typed, with the task's own name where it is one.
pub fn become_svc_cluster(mut variables: Vec<(&'static str, OsString)>) -> Result<()> {
    let program = build::program("svc-tests", PROGRAM)?;
    let privilege = Privilege::find();
    ensure!(
        privilege != Privilege::None,
        "namespaces, mounts and programs in the kernel need root: become root, or install sudo"
    );
    variables.push(("SVC_CACHE", cache::dir()?.into()));
    variables.push(("CARGO_TARGET_DIR", project::target_dir().into()));
    let task = env::args_os().skip(1).filter(|word| word != "cluster");
    let error = privilege.command(&program, &variables).args(task).exec();
    Err(error).with_context(|| format!("cannot start {PROGRAM}"))
}
