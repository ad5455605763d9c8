//! The foreign programs of a cluster: the user's, or built once per version from the Go modules of `tests/cluster`
//! into the cache. This file decides the source of each and links all of them into one folder; `module` lists them,
//! `build` compiles them.

mod build;
mod module;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

pub use module::{COREDNS, E2E, Module};

use crate::{cache, debian, go, project};

/// etcd, API server, controllers, scheduler, kubectl; also Kubernetes' programs of a node.
pub const CONTROL_PLANE: &[Module] = &[module::KUBERNETES];
/// Other programs of a node: the container runtime and the CNI plugins (and runc, which is not from a module).
pub const NODES: &[Module] = &[module::CONTAINERD, module::CNI];
pub const DNS: &[Module] = &[COREDNS];
/// Installs the chart.
pub const HELM: &[Module] = &[module::HELM];
/// Reads alerts and dashboards.
pub const PROMQL: &[Module] = &[module::PROMQL];
/// Kubernetes' own tests and the programs of their images.
pub const CONFORMANCE: &[Module] = &[E2E];

/// Name (`kubelet`, `cni/bridge`) -> path.
#[derive(Debug, Default)]
pub struct Programs(BTreeMap<&'static str, PathBuf>);

impl Programs {
    pub fn get(&self, name: &str) -> Result<&Path> {
        self.0.get(name).map(PathBuf::as_path).with_context(|| format!("no program {name}"))
    }

    /// Links all of them in `target/cluster/bin`; links of earlier calls stay.
    pub fn link(&self) -> Result<PathBuf> {
        let folder = project::target_dir().join("cluster/bin");
        for (name, program) in &self.0 {
            let link = folder.join(name);
            if fs::read_link(&link).is_ok_and(|to| to == *program) {
                continue;
            }
            fs::create_dir_all(link.parent().unwrap_or(&folder))?;
            // By rename, so that a running cluster never misses a program.
            let fresh = folder.join("link");
            let _ = fs::remove_file(&fresh);
            symlink(program, &fresh).with_context(|| fresh.display().to_string())?;
            fs::rename(&fresh, &link).with_context(|| link.display().to_string())?;
        }
        Ok(folder)
    }
}

/// Finds or fetches compilers for those of these modules that must be built.
pub fn compilers(sets: &[&[Module]]) -> Result<()> {
    for module in sets.iter().copied().flatten().filter(|module| module.programs.iter().any(is_missing)) {
        go::ensure(&module.folder())?;
    }
    Ok(())
}

/// Finds the programs of these modules, and builds the missing ones.
pub fn programs(sets: &[&[Module]]) -> Result<Programs> {
    let mut found = Programs::default();
    for module in sets.iter().copied().flatten() {
        found.0.extend(module.programs.iter().filter_map(|name| Some((*name, given(name)?))));
        let missing: Vec<_> = module.programs.iter().filter(|name| is_missing(name)).collect();
        if missing.is_empty() {
            continue;
        }
        let built = build::module(module)?;
        found.0.extend(missing.into_iter().map(|name| (*name, built.join(name))));
    }
    if sets.contains(&NODES) {
        found.0.insert("runc", runc()?);
    }
    Ok(found)
}

fn is_missing(name: &&'static str) -> bool {
    given(name).is_none()
}

/// Path of a program that the user provides.
fn given(name: &str) -> Option<PathBuf> {
    // The environment variable of envtest's programs, for these three.
    let assets = ["etcd", "kube-apiserver", "kubectl"].contains(&name).then_some("KUBEBUILDER_ASSETS");
    let dirs = [Some("SVC_CLUSTER_BIN"), assets].into_iter().flatten().filter_map(env::var_os);
    let program = dirs.map(|dir| project::root().join(dir).join(name)).find(|program| program.exists())?;
    Some(program)
}

/// runc needs C libraries that every Debian has: its package is unpacked, not installed.
fn runc() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let installed = dirs.map(|dir| dir.join("runc")).find(|program| program.is_file());
    match given("runc").or(installed) {
        Some(program) => Ok(program),
        None => Ok(debian::unpack(&cache::dir()?.join("debian"), "runc")?.join("usr/sbin/runc")),
    }
}

/// Source folder of an upstream module in the locked version.
pub fn source(upstream: &str, module: &Module) -> Result<PathBuf> {
    let go = go::ensure(&module.folder())?;
    let mut list = Command::new(&go.program);
    list.args(["list", "-m", "-f", "{{.Dir}}", upstream]).current_dir(module.folder()).env_remove("GOROOT");
    let output = list.output().context("go list")?;
    let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(!dir.is_empty(), "go list -m {upstream}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(dir.into())
}

/// Fetches Go if the machine has none, or one that is too old for some module.
pub fn setup() -> Result<()> {
    for module in [CONTROL_PLANE, NODES, DNS, HELM, PROMQL, CONFORMANCE].into_iter().flatten() {
        go::ensure(&module.folder())?;
    }
    Ok(())
}
