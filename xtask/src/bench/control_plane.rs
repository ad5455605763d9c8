//! `cargo xtask bench control-plane`, by the program `svc-scale`.

#[expect(dead_code, reason = "svc-scale parses the typed flags; here they are only checked")]
#[path = "../../../tests/src/scale/args.rs"]
mod args;

use anyhow::Result;

pub use args::Args;

use super::measure;
use crate::components::{self, CONTROL_PLANE};

pub fn main(args: &Args) -> Result<()> {
    let needs_control_plane = args.against.is_some() || args.real_api_server;
    let programs = || {
        if !needs_control_plane {
            return Ok(Vec::new());
        }
        Ok(vec![("SVC_CLUSTER_BIN", components::programs(&[CONTROL_PLANE])?.link()?.into())])
    };
    // The typed arguments after `bench control-plane`: svc-scale has the same flags.
    measure(("svc-scale", std::env::args_os().skip(3)), programs, ("control-plane", args.dry_run))
}
