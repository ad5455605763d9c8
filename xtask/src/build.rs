//! Builds the product: one binary, `svc-ctl`, with the kernel programs inside.

use std::path::PathBuf;

use anyhow::Result;

use crate::{project, setup};

pub fn main() -> Result<()> {
    setup::for_building()?;
    let binary = svc_ctl()?;
    println!("{}", binary.display());
    Ok(())
}

/// Builds svc-ctl, optimised and without privileges, and says where it is.
pub fn svc_ctl() -> Result<PathBuf> {
    project::run(project::cargo().args(["build", "--release", "--locked", "--package", "svc-ctl"]))?;
    Ok(project::target_dir().join("release/svc-ctl"))
}
