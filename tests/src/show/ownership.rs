//! Gives what was made under sudo to the user who called it.

use std::env;
use std::fs;
use std::os::unix::fs::lchown;
use std::path::Path;

use anyhow::{Context, Result};

use crate::run_name;

pub(super) fn hand_back(report: Option<&Path>) -> Result<()> {
    let id = |name| env::var(name).ok()?.parse().ok();
    let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) else { return Ok(()) };
    for path in [Some(run_name::scratch_dir().as_path()), report].into_iter().flatten() {
        give(path, user, group).with_context(|| format!("give {} to user {user}", path.display()))?;
    }
    Ok(())
}

fn give(path: &Path, user: u32, group: u32) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    lchown(path, Some(user), Some(group))?;
    if path.is_dir() {
        fs::read_dir(path)?.try_for_each(|entry| give(&entry?.path(), user, group))?;
    }
    Ok(())
}
