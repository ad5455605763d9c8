//! Cgroups below the discovered v2 mount: one per topology, below it one per node, below that one per pod.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{run_name, wait};

/// A cgroup with everything below it. Dropping it ends its processes and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A top level cgroup of one topology.
    pub fn new(name: &str) -> Result<Self> {
        Self::make(mount_point()?.join(name))
    }

    pub fn child(&self, name: &str) -> Result<Self> {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Keeps the cgroup when this guard is dropped.
    pub fn leave(self) -> ManuallyDrop<Self> {
        ManuallyDrop::new(self)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a command start inside this cgroup, so that all its sockets are made inside.
    pub fn contain(&self, command: &mut Command) -> Result<()> {
        let mut procs = self.open_procs()?;
        let enter = move || procs.write_all(b"0");
        // SAFETY: between fork and exec only write(2) on an open file is called; nothing is allocated or locked.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }

    fn open_procs(&self) -> Result<File> {
        let path = self.path.join("cgroup.procs");
        OpenOptions::new().write(true).open(&path).with_context(|| format!("open {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Ends the cgroup's processes and removes it with its children.
pub(crate) fn remove(path: &Path) {
    if !path.exists() {
        return;
    }
    // Kernels before 5.14 have no cgroup.kill; the guards of the processes end them.
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let _ = wait::until_true("the cgroup is empty", Duration::from_secs(5), || {
        remove_leaves_first(path);
        Ok(!path.exists())
    });
}

pub(crate) fn remove_leaves_first(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_leaves_first(&entry.path());
        }
    }
    // Busy while a process is still ending; the caller tries again.
    let _ = fs::remove_dir(path);
}

/// Mount point of the v2 hierarchy: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid system.
pub fn mount_point() -> Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    find_mount(&table).context("no cgroup v2 hierarchy is mounted")
}

fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Ends and removes cgroups of dead owners.
pub fn remove_stale() {
    let entries = mount_point().ok().and_then(|mount| fs::read_dir(mount).ok());
    for entry in entries.into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(run_name::is_stale) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_mount_is_found_on_a_hybrid_system() {
        let table = "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(find_mount(table), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(find_mount("20 1 0:5 / /dev rw - devtmpfs udev rw"), None);
    }
}
