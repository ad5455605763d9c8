//! The node's container runtime: configures it, starts it, imports images.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::init;
use super::spec::Spec;
use crate::cluster::process::Process;
use crate::{command, wait};

pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Folder of its CNI configuration, below the node's folder.
pub(super) const CNI_DIR: &str = "cni";

pub(super) fn configure(spec: &Spec, pause: &str) -> Result<()> {
    let path = spec.dir.join("containerd.toml");
    fs::write(&path, config(spec, pause)).with_context(|| format!("write {}", path.display()))
}

/// `restrict_oom_score_adj` and no AppArmor, because some machines forbid changes of either.
fn config(spec: &Spec, pause: &str) -> String {
    let (dir, bin) = (spec.dir.display(), spec.bin.display());
    format!(
        r#"version = 3
root = "{dir}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs"]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{bin}/cni"]
conf_dir = "{dir}/{CNI_DIR}"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{bin}/runc"
SystemdCgroup = false
"#
    )
}

/// Starts it and waits until it responds.
pub(super) fn start(spec: &Spec) -> Result<Process> {
    let config = spec.dir.join("containerd.toml");
    let mut process = init::start(spec, "containerd", &[format!("--config={}", config.display())])?;
    let ready = wait::until("containerd answers", READY_LIMIT, || match process.check() {
        Err(ended) => Ok(Some(Err(ended))),
        Ok(()) => command::run(ctr(&spec.bin).arg("version")).map(|_| Some(Ok(()))),
    });
    ready??;
    Ok(process)
}

/// Imports every image for the kubelet.
pub(super) fn import(spec: &Spec) -> Result<()> {
    spec.images.iter().try_for_each(|archive| {
        let mut ctr = ctr(&spec.bin);
        command::run(ctr.args(["-n", "k8s.io", "images", "import", "--all-platforms=false"]).arg(archive))?;
        Ok(())
    })
}

fn ctr(bin: &Path) -> Command {
    let mut command = Command::new(bin.join("ctr"));
    command.args(["-a", SOCKET]);
    command
}
