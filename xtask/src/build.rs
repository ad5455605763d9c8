//! Builds the product: one binary, `svc-ctl`, which contains the kernel programs. It is static, so the tested file
//! also runs on a host, in an empty image, and on a machine with another C library.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::{project, setup};

pub fn main() -> Result<()> {
    setup::for_building()?;
    let binary = svc_ctl()?;
    println!("{}", binary.display());
    Ok(())
}

pub fn svc_ctl() -> Result<PathBuf> {
    program("svc-ctl", "svc-ctl")
}

/// Builds a program, optimised, static and without privileges; returns its path.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut cargo = project::cargo();
    cargo.args(["build", "--release", "--locked", "--package", package, "--bin", name]);
    // With an explicit target, the flags apply to the program only, not to build scripts and procedural macros.
    cargo.args(["--target", &target]);
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    cargo.env("RUSTFLAGS", format!("{flags} -Ctarget-feature=+crt-static"));
    project::run(&mut cargo)?;
    Ok(project::target_dir().join(target).join("release").join(name))
}
