//! Builds the product: one binary, `svc-ctl`, which contains the kernel programs. It is static, so the tested file
//! also runs on a host, in an empty image, and on a machine with another C library.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context as _, Result};

use crate::{bpf, project, setup};

pub fn main() -> Result<()> {
    setup::for_building()?;
    let binary = svc_ctl()?;
    println!("{}", binary.display());
    Ok(())
}

pub fn svc_ctl() -> Result<PathBuf> {
    program("svc-ctl", "svc-ctl", &[])
}

/// svc-ctl with tables of the next ABI number, for the tier `upgrade`; returns the path of a copy, since both programs
/// are built at one path.
pub fn svc_ctl_of_next_layout() -> Result<PathBuf> {
    let built = program("svc-ctl", "svc-ctl", &["next-layout"])?;
    let copy = built.with_file_name("svc-ctl-next");
    fs::copy(&built, &copy).with_context(|| format!("copying {}", built.display()))?;
    Ok(copy)
}

/// Builds a program with these features, optimised, static and without privileges; returns its path.
pub fn program(package: &str, name: &str, features: &[&str]) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut cargo = project::cargo();
    cargo.args(["build", "--release", "--locked", "--package", package, "--bin", name]);
    cargo.args(features.iter().flat_map(|feature| ["--features", feature]));
    // With an explicit target, the flags apply to the program only, not to build scripts and procedural macros.
    cargo.args(["--target", &target]);
    let given = env::var("RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<_> = given.split_whitespace().map(str::to_owned).collect();
    flags.push("-Ctarget-feature=+crt-static".into());
    flags.extend(bpf::names_for_paths(project::root()));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    project::run(&mut cargo)?;
    Ok(project::target_dir().join(target).join("release").join(name))
}
