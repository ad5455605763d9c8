//! The node's cgroup: the directory of cgroup v2 above every process of the node, pods included.
//!
//! A container may see several such directories. Its own is the wrong one: programs attached there would serve only
//! the daemon.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Opens the directory named by the user, or finds the node's. If no cgroup v2 hierarchy is mounted, mounts one in
/// the run directory.
pub fn open(named: Option<&Path>, run_dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = match named {
        Some(dir) => return check(dir).map(|()| dir.to_owned()),
        None => {
            let mounts =
                std::fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
            match highest(&mounts) {
                Some(dir) => dir,
                None => mount_one(run_dir)?,
            }
        }
    };
    check(&dir)?;
    ensure!(
        !is_own(&dir),
        "--cgroup: {} is not the node's cgroup but this process's own: mount the node's /sys/fs/cgroup into the \
         container, or name the directory if it is meant",
        dir.display()
    );
    Ok(dir)
}

/// The directory that [`open`] would use; `None` if it would have to mount one.
pub fn find(named: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let Some(dir) = named.map(Path::to_owned).or_else(|| highest(&mounts)) else { return Ok(None) };
    check(&dir)?;
    ensure!(
        named.is_some() || !is_own(&dir),
        "{} is not the node's cgroup but this process's own",
        dir.display()
    );
    Ok(Some(dir))
}

/// Removes a mount that [`open`] may have made.
pub fn cleanup(run_dir: &Path) -> anyhow::Result<()> {
    let dir = mount_point(run_dir);
    match umount(&dir) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(err) => return Err(err).with_context(|| format!("unmounting {}", dir.display())),
    }
    match std::fs::remove_dir(&dir) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn check(dir: &Path) -> anyhow::Result<()> {
    let kind = statfs(dir).with_context(|| format!("--cgroup {}", dir.display()))?;
    let is_cgroup2 = kind.filesystem_type() == CGROUP2_SUPER_MAGIC;
    ensure!(is_cgroup2, "--cgroup {}: not a cgroup v2 directory", dir.display());
    Ok(())
}

/// The directory is a container's own cgroup namespace. It lies directly below a root that is not the machine's (the
/// machine's root cgroup has no type).
fn is_own(dir: &Path) -> bool {
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let pid = std::process::id().to_string();
    dir.join("cgroup.type").exists() && procs.lines().any(|line| line == pid)
}

/// The cgroup v2 mount with the highest root. Roots are relative to our own cgroup namespace, so `/../..` is above `/`.
/// If several are equal, the newest, which covers the others.
fn highest(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (fields, tail) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_whole = root.split('/').all(|part| part.is_empty() || part == "..");
        (tail.split(' ').next()? == "cgroup2" && is_whole)
            .then(|| (root.matches("..").count(), PathBuf::from(point)))
    });
    mounts.max_by_key(|(height, _)| *height).map(|(_, point)| point)
}

fn mount_point(run_dir: &Path) -> PathBuf {
    run_dir.join("cgroup")
}

fn mount_one(run_dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = mount_point(run_dir);
    let subject =
        || format!("--cgroup: no cgroup v2 hierarchy is mounted, and mounting one at {}", dir.display());
    std::fs::create_dir_all(&dir).with_context(subject)?;
    mount(Some("cgroup2"), &dir, Some("cgroup2"), MsFlags::empty(), None::<&str>).with_context(subject)?;
    tracing::info!(dir = %dir.display(), "mounted a cgroup v2 hierarchy");
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Option<String> {
        highest(&lines.join("\n")).map(|p| p.display().to_string())
    }

    #[test]
    fn the_cgroup_mount_is_found_among_others() {
        let (sys, hybrid) = (
            "22 27 0:20 / /sys rw - sysfs sysfs rw",
            "30 22 0:26 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw",
        );
        assert_eq!(found(&[sys, hybrid]).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(found(&[sys]), None);
    }

    #[test]
    fn a_container_takes_the_nodes_cgroup_and_not_its_own() {
        let own = "40 39 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw";
        let nodes = "41 39 0:26 /../../.. /host/cgroup rw master:9 - cgroup2 cgroup2 rw";
        let pods = "42 39 0:26 /../.. /other rw - cgroup2 cgroup2 rw";
        for lines in [[own, nodes, pods], [pods, nodes, own]] {
            assert_eq!(found(&lines).as_deref(), Some("/host/cgroup"));
        }
    }

    #[test]
    fn a_part_of_the_hierarchy_is_not_the_nodes() {
        assert_eq!(found(&["40 39 0:26 /kubepods/pod1 /part rw - cgroup2 cgroup2 rw"]), None);
        assert_eq!(found(&["40 39 0:26 /../other /part rw - cgroup2 cgroup2 rw"]), None);
    }
}
