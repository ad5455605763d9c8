//! The proof that a release is reproducible: the commit is cloned into another folder, everything is made again there with
//! nothing built before, and the checksums are compared.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::sums;
use crate::{bpf, project};

/// Fails if there are uncommitted changes, because a clone would not have them.
pub fn ensure_committed() -> Result<()> {
    let changes = super::git(&["status", "--porcelain"])?;
    ensure!(changes.is_empty(), "--twice compares with a clone of the commit; not committed is:\n{changes}");
    Ok(())
}

pub fn compare(folder: &Path) -> Result<()> {
    let place = super::fresh_folder("second")?;
    let (source, second) = (place.join("somewhere/else"), place.join("dist"));
    project::run(Command::new("git").args(["clone", "--quiet"]).arg(project::root()).arg(&source))?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["xtask", "dist", "--output"]).arg(&second).current_dir(&source);
    cargo.env("CARGO_TARGET_DIR", place.join("target"));
    // The tools that this folder has need not be built again.
    cargo.env("PATH", env::join_paths(bpf::tool_dirs(project::root())).context("PATH")?);
    // The variables describe this xtask, whose cargo set them.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        cargo.env_remove(name);
    }
    cargo.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    project::run(&mut cargo)?;
    let read = |folder: &Path| {
        let path = folder.join(sums::FILE);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let (first, second) = (read(folder)?, read(&second)?);
    let different = sums::differences(&first, &second);
    ensure!(
        different.is_empty(),
        "not reproducible: {} (the second set is in {})",
        different.join(", "),
        place.display()
    );
    eprintln!("made twice, in two folders: {} files, no octet differs", first.lines().count());
    std::fs::remove_dir_all(&place).with_context(|| place.display().to_string())
}
