//! `cargo xtask conformance`: builds Kubernetes' own tests and what they run on, then becomes `svc-cluster conformance`.

use std::ffi::OsString;

use anyhow::Result;

use crate::image::cluster::Wanted;
use crate::{cluster, components, setup};

#[derive(clap::Args)]
pub struct Args {
    /// A regular expression over the names of specs, and flags; `--help` says more
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Does not return when all goes well.
pub fn main(_checked: &Args) -> Result<()> {
    setup::for_running()?;
    let sets = [components::CONTROL_PLANE, components::NODES, components::DNS, components::CONFORMANCE];
    cluster::become_svc_cluster(cluster::prepare(&sets, Wanted::Conformance)?)
}
