//! Gives files made under sudo to the calling user.

use std::env;
use std::fs;
use std::os::unix::fs::lchown;
use std::path::Path;

use anyhow::{Context, Result};

/// Gives these files, and folders with their contents, back; missing ones are skipped.
pub fn hand_back(paths: &[&Path]) -> Result<()> {
    let id = |name| env::var(name).ok()?.parse().ok();
    let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) else { return Ok(()) };
    for path in paths {
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
