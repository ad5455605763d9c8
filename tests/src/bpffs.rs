//! A bpf file system for pins, mounted below the target folder and unmounted on drop.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::run_name;

/// A mounted bpffs. Unmounting it releases every map and link that is pinned only there.
#[derive(Debug)]
pub struct BpfFs {
    path: PathBuf,
}

impl BpfFs {
    pub fn mount(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        mount_at(path)?;
        Ok(Self { path: path.into() })
    }

    /// Unmounts it, as an administrator may, and mounts an empty one in its place.
    pub fn renew(path: &Path) -> Result<()> {
        umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", path.display()))?;
        mount_at(path)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every pin below a folder of this file system.
    pub fn pins(dir: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.flat_map(|path| if path.is_dir() { Self::pins(&path) } else { vec![path] }).collect()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

fn mount_at(path: &Path) -> Result<()> {
    mount(Some("bpffs"), path, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mount a bpffs on {}", path.display()))
}

fn unmount(path: &Path) {
    // Detached, so that a process with its working directory there does not prevent it.
    let _ = umount2(path, MntFlags::MNT_DETACH);
}

/// Unmounts leftovers of dead owners, and removes their folders.
pub fn remove_stale() {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for path in table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new) {
        let stale = |part: &std::ffi::OsStr| part.to_str().is_some_and(run_name::is_stale);
        if path.starts_with(run_name::scratch_dir()) && path.iter().any(stale) {
            unmount(path);
        }
    }
    for entry in fs::read_dir(run_name::scratch_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(run_name::is_stale) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
