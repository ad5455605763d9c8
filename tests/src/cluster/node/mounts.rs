//! The node's file system: the machine's, with folders of its own to write, and its own kernel file systems.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::cluster::hierarchies::{self, Hierarchy};
use crate::cluster::node::spec::Spec;

/// Folders of the machine that a node writes to, through an overlay of its own.
const OVERLAID: [&str; 3] = ["/etc", "/var/lib", "/var/log"];

/// Sysctls of the whole machine that the kubelet would set: it sees the desired values, and leaves them alone.
const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Must run in the node's own mount, cgroup and PID namespaces.
pub(super) fn make(spec: &Spec) -> Result<()> {
    let hierarchies = hierarchies::all()?;
    propagate(MsFlags::MS_PRIVATE)?;
    plain("proc", "/proc", None)?;
    plain("sysfs", "/sys", None)?;
    cgroups(&hierarchies)?;
    plain("bpf", "/sys/fs/bpf", None)?;
    OVERLAID.iter().try_for_each(|dir| overlay(spec, dir))?;
    plain("tmpfs", "/run", Some("mode=755"))?;
    ["/run/netns", "/run/lock", "/run/containerd"].iter().try_for_each(|dir| make_dir(Path::new(dir)))?;
    // Containers need these two, and an overlay on an overlay does not work.
    bind(&spec.dir.join("kubelet"), Path::new("/var/lib/kubelet"))?;
    bind(&spec.dir.join("pods"), Path::new("/var/log/pods"))?;
    fake_tunables(&spec.dir.join("tunables"))?;
    propagate(MsFlags::MS_SHARED)
}

fn propagate(how: MsFlags) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, how | MsFlags::MS_REC, None::<&str>).context("mount / again")
}

fn plain(kind: &str, at: &str, options: Option<&str>) -> Result<()> {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), options).with_context(|| format!("mount {at}"))
}

fn cgroups(hierarchies: &[Hierarchy]) -> Result<()> {
    if hierarchies.iter().any(|found| !found.is_v2()) {
        plain("tmpfs", "/sys/fs/cgroup", Some("mode=755"))?;
    }
    hierarchies.iter().try_for_each(Hierarchy::mount_again)
}

fn overlay(spec: &Spec, dir: &str) -> Result<()> {
    let own = |part: &str| -> Result<PathBuf> {
        let path = spec.dir.join("overlay").join(dir.replace('/', "-")).join(part);
        make_dir(&path)?;
        Ok(path)
    };
    let options =
        format!("lowerdir={dir},upperdir={},workdir={}", own("upper")?.display(), own("work")?.display());
    plain("overlay", dir, Some(&options))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    make_dir(from)?;
    make_dir(to)?;
    bind_file(from, to)
}

fn bind_file(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("bind {} to {}", from.display(), to.display()))
}

fn fake_tunables(dir: &Path) -> Result<()> {
    make_dir(dir)?;
    for (name, value) in TUNABLES {
        let (fake, real) = (dir.join(name.replace('/', "-")), Path::new("/proc/sys").join(name));
        fs::write(&fake, format!("{value}\n")).with_context(|| format!("write {}", fake.display()))?;
        if real.exists() {
            bind_file(&fake, &real)?;
        }
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))
}
