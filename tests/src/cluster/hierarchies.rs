//! The cgroup hierarchies of the machine: v2 alone, or v1 beside it. A node has a cgroup in each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::{cgroup, run_name};

const ROOT: &str = "/sys/fs/cgroup";

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    V2,
    /// With the mount options: its controllers, or its name.
    V1(String),
}

/// All hierarchies mounted below `/sys/fs/cgroup`.
pub(super) fn all() -> Result<Vec<Hierarchy>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?))
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo.lines().filter_map(parse_line).filter(|found| found.mount.starts_with(ROOT)).collect()
}

fn parse_line(line: &str) -> Option<Hierarchy> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mount = PathBuf::from(mount.split(' ').nth(4)?);
    let mut words = filesystem.split(' ');
    let kind = match words.next()? {
        "cgroup2" => Kind::V2,
        "cgroup" => Kind::V1(mount_options(words.next_back()?)),
        _ => return None,
    };
    Some(Hierarchy { mount, kind })
}

/// The part of `rw,xattr,name=systemd` that selects the hierarchy.
fn mount_options(shown: &str) -> String {
    let not_ours = |word: &&str| !["rw", "ro", "xattr", "clone_children", "noprefix"].contains(word);
    let mut options: Vec<_> = shown.split(',').filter(not_ours).collect();
    if options.iter().all(|word| word.contains('=')) {
        options.insert(0, "none");
    }
    options.join(",")
}

impl Hierarchy {
    /// Moves this process into the cgroup; makes the cgroup if missing.
    pub(super) fn join(&self, cgroup: &Path) -> Result<()> {
        let mut path = self.mount.clone();
        for part in cgroup {
            // Except the machine's root, which must not change.
            if self.is_v2() && path != self.mount {
                delegate(&path)?;
            }
            path.push(part);
            fs::create_dir_all(&path).with_context(|| format!("make cgroup {}", path.display()))?;
            // A v1 cpuset accepts no process before it has CPUs and memory nodes.
            ["cpuset.cpus", "cpuset.mems"].iter().try_for_each(|file| inherit(&path, file))?;
        }
        move_into(&path)
    }

    /// Mounts the hierarchy for the node: its own cgroup is the root.
    pub(super) fn mount_again(&self) -> Result<()> {
        let (kind, options) = match &self.kind {
            Kind::V2 => ("cgroup2", None),
            Kind::V1(options) => ("cgroup", Some(options.as_str())),
        };
        fs::create_dir_all(&self.mount).with_context(|| format!("make {}", self.mount.display()))?;
        mount(Some(kind), &self.mount, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("mount {}", self.mount.display()))
    }

    pub(super) fn is_v2(&self) -> bool {
        self.kind == Kind::V2
    }
}

pub(super) fn move_into(cgroup: &Path) -> Result<()> {
    let procs = cgroup.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("write {}", procs.display()))
}

/// Enables every controller of a v2 cgroup for its children.
pub(super) fn delegate(cgroup: &Path) -> Result<()> {
    let controllers =
        fs::read_to_string(cgroup.join("cgroup.controllers")).context("read cgroup.controllers")?;
    let wanted: Vec<_> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let path = cgroup.join("cgroup.subtree_control");
    fs::write(&path, wanted.join(" ")).with_context(|| format!("write {}", path.display()))
}

fn inherit(cgroup: &Path, file: &str) -> Result<()> {
    let (own, parents) = (cgroup.join(file), cgroup.with_file_name(file));
    if !fs::read_to_string(&own).is_ok_and(|value| value.trim().is_empty()) {
        return Ok(());
    }
    let value = fs::read_to_string(&parents).with_context(|| format!("read {}", parents.display()))?;
    fs::write(&own, value).with_context(|| format!("write {}", own.display()))
}

/// A cgroup in the v1 hierarchies. Its processes are ended through v2, so dropping it only removes empty folders.
#[derive(Debug)]
pub(super) struct OldHierarchies(PathBuf);

impl OldHierarchies {
    pub(super) fn of(cgroup: &Path) -> Self {
        Self(cgroup.to_owned())
    }
}

impl Drop for OldHierarchies {
    fn drop(&mut self) {
        remove(&self.0);
        // Removes the cluster's cgroup with its last node.
        if let Some(cluster) = self.0.parent().filter(|parent| *parent != Path::new("")) {
            for path in old_paths(cluster) {
                let _ = fs::remove_dir(path);
            }
        }
    }
}

fn old_paths(cgroup: &Path) -> Vec<PathBuf> {
    let old = all().unwrap_or_default().into_iter().filter(|hierarchy| !hierarchy.is_v2());
    old.map(|hierarchy| hierarchy.mount.join(cgroup)).filter(|path| path.exists()).collect()
}

/// Removes the cgroup and its children from every v1 hierarchy, if they are empty.
pub(super) fn remove(cgroup: &Path) {
    old_paths(cgroup).iter().for_each(|path| cgroup::remove_leaves_first(path));
}

/// The hierarchies that still have the cgroup.
pub(super) fn left(cgroup: &Path) -> Vec<PathBuf> {
    let everywhere = all().unwrap_or_default().into_iter().map(|hierarchy| hierarchy.mount.join(cgroup));
    everywhere.filter(|path| path.exists()).collect()
}

/// Removes leftovers of dead owners from the v1 hierarchies.
pub(crate) fn remove_stale() {
    let old = all().unwrap_or_default().into_iter().filter(|hierarchy| !hierarchy.is_v2());
    for entry in old.filter_map(|hierarchy| fs::read_dir(hierarchy.mount).ok()).flatten().flatten() {
        if entry.file_name().to_str().is_some_and(run_name::is_stale) {
            cgroup::remove_leaves_first(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(table: &str) -> Vec<(String, Kind)> {
        parse(table).into_iter().map(|found| (found.mount.display().to_string(), found.kind)).collect()
    }

    #[test]
    fn hierarchies_of_a_hybrid_machine_are_found_with_their_mount_options() {
        let table = "1 1 0:3 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                     34 31 0:31 / /sys/fs/cgroup/cpu rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
                     35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let found = kinds(table);
        assert_eq!(found[0], ("/sys/fs/cgroup/cpu".into(), Kind::V1("cpu,cpuacct".into())));
        assert_eq!(found[1], ("/sys/fs/cgroup/systemd".into(), Kind::V1("none,name=systemd".into())));
        assert_eq!(found[2], ("/sys/fs/cgroup/unified".into(), Kind::V2));
    }

    #[test]
    fn a_machine_with_v2_alone_has_one_hierarchy() {
        let table = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(kinds(table), [("/sys/fs/cgroup".to_owned(), Kind::V2)]);
    }
}
