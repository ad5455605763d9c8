//! A node's first process: makes the namespaces, starts the node's components in them, and reaps ended processes.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{getpid, sethostname};

use super::spec::{self, Spec};
use super::{containerd, mounts};
use crate::cgroup::Cgroup;
use crate::cleanup::THIS_PROGRAM;
use crate::cluster::hierarchies;
use crate::cluster::process::Process;

/// Its name in process lists.
pub(in crate::cluster) const PROCESS: &str = "svc-node";

/// Every `main` that makes clusters must call this first; in a node it does not return.
pub fn maybe_run() {
    let Some(path) = env::var_os(spec::ENV) else { return };
    let ended = read(Path::new(&path)).and_then(|spec| if is_first() { live(&spec) } else { enter(&spec) });
    if let Err(error) = ended {
        eprintln!("{error:#}");
    }
    exit(1);
}

fn read(path: &Path) -> Result<Spec> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}

fn is_first() -> bool {
    getpid().as_raw() == 1
}

/// Outside: joins the node's cgroups, which become its roots, and starts this program again as PID 1.
fn enter(spec: &Spec) -> Result<()> {
    let all = hierarchies::all()?;
    all.iter().try_for_each(|hierarchy| hierarchy.join(&spec.cgroup))?;
    unshare(
        CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .context("make namespaces")?;
    // A v2 cgroup with processes cannot give controllers to its children, and this process stays.
    if let Some(v2) = all.iter().find(|hierarchy| hierarchy.is_v2()) {
        let init = v2.mount.join(&spec.cgroup).join("init");
        fs::create_dir_all(&init).with_context(|| format!("make {}", init.display()))?;
        hierarchies::move_into(&init)?;
        hierarchies::delegate(&v2.mount.join(&spec.cgroup))?;
    }
    let status =
        Command::new(THIS_PROGRAM).arg0(PROCESS).status().context("start the node's first process")?;
    anyhow::bail!("the node's first process ended: {status}")
}

/// Inside: runs until something fails.
fn live(spec: &Spec) -> Result<()> {
    mounts::make(spec)?;
    sethostname(&spec.name).context("set the host name")?;
    write_etc(spec)?;
    let containerd = containerd::start(spec)?;
    containerd::import(spec)?;
    let mut components = vec![containerd, start(spec, "kubelet", &spec.kubelet_flags)?];
    if let Some(config) = &spec.kube_proxy {
        components.push(start(spec, "kube-proxy", &[format!("--config={}", config.display())])?);
    }
    reap(spec, &components)
}

fn write_etc(spec: &Spec) -> Result<()> {
    for (name, text) in [
        ("hosts", format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {}\n", spec.name)),
        ("hostname", format!("{}\n", spec.name)),
        // The cluster's own DNS has no upstream.
        ("resolv.conf", String::new()),
    ] {
        let path = Path::new("/etc").join(name);
        // A link may lead into a folder that is replaced here.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let id: String = spec.name.bytes().map(|octet| format!("{octet:02x}")).collect();
    fs::write("/etc/machine-id", format!("{id:0>32}\n")).context("write /etc/machine-id")
}

/// Starts a component in a cgroup of its own.
pub(super) fn start(spec: &Spec, name: &str, flags: &[String]) -> Result<Process> {
    let mut command = Command::new(spec.bin.join(name));
    command.args(flags).env_remove(spec::ENV).env("PATH", path(spec));
    Process::start(name, command, Cgroup::new(name)?, &spec.log_dir())
}

/// PATH of the components, which must find runc, shim and nft.
fn path(spec: &Spec) -> String {
    format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", spec.bin.display())
}

/// Orphaned processes become children of PID 1. Ended components are noted, not restarted.
fn reap(spec: &Spec, components: &[Process]) -> Result<()> {
    loop {
        match waitpid(None, None) {
            Ok(status) => note(spec, components, status)?,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for children"),
        }
    }
}

fn note(spec: &Spec, components: &[Process], status: WaitStatus) -> Result<()> {
    let Some(ended) = components.iter().find(|process| status.pid() == Some(process.pid())) else {
        return Ok(());
    };
    let mut file = File::options().create(true).append(true).open(spec.ended()).context("open the note")?;
    writeln!(file, "{} of {} ended ({status:?}):\n{}", ended.name(), spec.name, ended.last_lines())?;
    Ok(())
}
