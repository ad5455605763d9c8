//! Checks the machine's requirements before anything is made.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::args::{Cni, Proxy, Up};
use super::control_plane::COMPONENTS;
use super::settings::Settings;
use super::{hierarchies, images};
use crate::netns::Netns;
use crate::run_name::RunName;
use crate::{cgroup, cleanup};

/// Programs other than the control plane's components.
const PROGRAMS: [&str; 7] =
    ["kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "cni/host-local"];

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Fails if no cluster can be made here. The error names the missing requirement.
pub fn check(settings: &Settings, options: &Up) -> Result<()> {
    ensure!(geteuid().is_root(), "a cluster needs root: namespaces, mounts, cgroups");
    cleanup::sweep();
    tools(options)?;
    for name in COMPONENTS.iter().chain(&PROGRAMS).copied().chain(of(options)) {
        settings.program(name)?;
    }
    images::pause(&images::archives(&settings.images)?)?;
    cgroups()?;
    network()?;
    overlay(&settings.dir.with_extension("try"))
}

fn of(options: &Up) -> Vec<&'static str> {
    let link = match options.cni {
        Cni::Bridge => "cni/bridge",
        Cni::Ptp => "cni/ptp",
    };
    let proxy = match options.proxy {
        Proxy::KubeProxyNftables | Proxy::KubeProxyIptables => Some("kube-proxy"),
        Proxy::Svc | Proxy::None => None,
    };
    [link, "cni/loopback", "cni/portmap"].into_iter().chain(proxy).collect()
}

/// Checks programs of the distribution.
fn tools(options: &Up) -> Result<()> {
    let iptables = (options.proxy == Proxy::KubeProxyIptables).then_some("iptables");
    for (tool, ask) in
        [("ip", "-V"), ("nft", "-v"), ("nsenter", "-V")].into_iter().chain(iptables.map(|tool| (tool, "-V")))
    {
        let mut command = Command::new(tool);
        let asked = command.arg(ask).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(asked.is_ok(), "{tool} is not installed");
    }
    Ok(())
}

fn cgroups() -> Result<()> {
    let root = cgroup::mount_point()?;
    let name = RunName::new("try").as_str().to_owned();
    let made = cgroup::Cgroup::new(&name).context("no cgroup can be made")?;
    let kill = made.path().join("cgroup.kill");
    ensure!(kill.exists(), "{} has no cgroup.kill: Linux 5.14 or newer is needed", root.display());
    let has_old = hierarchies::all()?.iter().any(|hierarchy| !hierarchy.is_v2());
    if has_old { Ok(()) } else { controllers(&root, made.path()) }
}

/// Checks controllers: with v2, runc needs these, and only the machine's root cgroup can enable them.
fn controllers(root: &Path, cgroup: &Path) -> Result<()> {
    let path = cgroup.join("cgroup.controllers");
    let had = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let missing = CONTROLLERS.iter().find(|name| !had.split_whitespace().any(|word| word == **name));
    match missing {
        None => Ok(()),
        Some(name) => {
            bail!("{}/cgroup.subtree_control does not hand down {name}: write +{name} to it", root.display())
        }
    }
}

fn network() -> Result<()> {
    let netns = Netns::new(RunName::new("try").as_str()).context("no network namespace can be made")?;
    netns.ip("link add br0 type bridge").context("the kernel makes no bridges (CONFIG_BRIDGE)")?;
    netns
        .ip("link add veth0 type veth peer name veth1")
        .context("the kernel makes no veth pairs (CONFIG_VETH)")?;
    netns
        .nft("table inet try { chain c { type nat hook postrouting priority srcnat; masquerade; }; }")
        .context("the kernel does not masquerade (CONFIG_NFT_MASQ)")
}

/// Mounts an overlay in a mount namespace that ends with its thread.
fn overlay(dir: &Path) -> Result<()> {
    for part in ["upper", "work"] {
        fs::create_dir_all(dir.join(part)).with_context(|| format!("make {}", dir.display()))?;
    }
    let tried = thread::scope(|scope| scope.spawn(|| mount_overlay(dir)).join());
    let _ = fs::remove_dir_all(dir);
    match tried {
        Ok(result) => result,
        Err(_) => bail!("a thread that mounts an overlay panicked"),
    }
}

fn mount_overlay(dir: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).context("no mount namespace can be made")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)?;
    let options = format!("lowerdir=/etc,upperdir={0}/upper,workdir={0}/work", dir.display());
    mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(options.as_str())).map_err(
        |error| {
            anyhow!(
                "no overlay can be mounted on {} ({error}): CONFIG_OVERLAY_FS, or SVC_CACHE elsewhere",
                dir.display()
            )
        },
    )
}
