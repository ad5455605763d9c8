//! Finds and installs requirements of building and testing: system packages by apt as root, the linker into
//! `target/tools`, Go into the cache. Does nothing if all are there. Without root it installs what needs no privileges,
//! and prints commands for the rest.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{bpf, components, privilege, project};

const BPF_LINKER: &str = "0.13.0";
/// Name, version, features.
const RELEASE_TOOLS: [(&str, &str, &[&str]); 2] =
    [("cargo-cyclonedx", "0.5.9", &[]), ("cargo-about", "0.9.3", &["--features", "cli"])];
/// The host compiler's linker; a distribution's Rust packages depend on it, rustup does not install it.
const C_COMPILER: &str = "gcc";

/// Routers that tests of BGP start in network namespaces. Where Debian starts their services too, those have no peers.
const ROUTERS: [(&str, &str); 3] = [("vtysh", "frr"), ("bird", "bird2"), ("gobgpd", "gobgpd")];

/// All requirements: of building, of the tests and `xtask run`, and a Go for the components of a cluster.
pub fn main() -> Result<()> {
    for_running()?;
    components::setup()?;
    eprintln!("setup: everything is in place");
    Ok(())
}

/// Requirements of `cargo build`.
pub fn for_building() -> Result<()> {
    install(&build_packages())?;
    install_linker()
}

/// Further requirements of the tests and the demonstration: network tools of the distribution.
pub fn for_running() -> Result<()> {
    let mut packages = build_packages();
    let tools = [("ip", "iproute2"), ("nft", "nftables"), ("ethtool", "ethtool")];
    for (tool, package) in tools.into_iter().chain(ROUTERS) {
        if !in_system(tool) {
            packages.push(package);
        }
    }
    install(&packages)?;
    install_linker()
}

/// Requirements of the tests on another kernel.
pub fn for_machine() -> Result<()> {
    if in_system("qemu-system-x86_64") && in_system("apt-get") {
        return Ok(());
    }
    install(&["qemu-system-x86"])
}

/// Debian's names of missing packages for compiling to BPF.
fn build_packages() -> Vec<&'static str> {
    let mut packages = Vec::new();
    if bpf::find_toolchain().is_none() {
        packages.extend(["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"]);
    }
    // The linker is linked against this LLVM, which also has llvm-strip.
    if !Path::new(bpf::LLVM_BIN).join("llvm-config").exists() && !runs("bpf-linker") {
        packages.push("llvm-22-dev");
    }
    if !in_system("cc") {
        packages.extend([C_COMPILER, "libc6-dev"]);
    }
    packages
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let install = ["install", "--yes", "--no-install-recommends"];
    if !in_system("apt-get") {
        bail!(
            "missing, in Debian's words: {}; on this system install their like: a nightly by `rustup toolchain \
             install nightly --component rust-src`, and LLVM 22 with its headers and llvm-config",
            packages.join(" ")
        );
    }
    if !privilege::is_root() {
        bail!(
            "packages are missing, please run\n\n    sudo apt-get update && sudo apt-get {} {}\n",
            install.join(" "),
            packages.join(" ")
        );
    }
    eprintln!("setup: installing {}", packages.join(" "));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--option", "Dpkg::Use-Pty=0"]);
        apt
    };
    project::run(apt().arg("update"))?;
    project::run(apt().args(install).args(packages))
}

/// Tools that describe a release: its bill of materials, and the licences of its parts.
pub fn for_release() -> Result<()> {
    for_building()?;
    for (name, version, features) in RELEASE_TOOLS {
        if !runs(name) {
            install_crate(name, version, features)?;
        }
    }
    Ok(())
}

/// The distribution has no linker for BPF: builds it from its crate, for the distribution's LLVM.
fn install_linker() -> Result<()> {
    if runs("bpf-linker") {
        return Ok(());
    }
    install_crate("bpf-linker", BPF_LINKER, &["--no-default-features", "--features", "llvm-22"])
}

fn install_crate(name: &str, version: &str, features: &[&str]) -> Result<()> {
    eprintln!("setup: building {name} {version} into target/tools (some minutes)");
    let tools = project::root().join("target/tools");
    let build = tools.join("build");
    let path = std::env::join_paths(bpf::tool_dirs(project::root())).context("PATH")?;
    let mut install = project::cargo();
    install
        .args(["install", name, "--version", version, "--locked", "--force"])
        .args(features)
        .arg("--root")
        .arg(&tools)
        .arg("--target-dir")
        .arg(&build)
        .env("PATH", path);
    project::run(&mut install)?;
    std::fs::remove_dir_all(&build).with_context(|| build.display().to_string())
}

/// A tool exists and starts (a linker's LLVM may have been removed).
fn runs(name: &str) -> bool {
    let tool = bpf::find_tool(project::root(), name);
    tool.is_some_and(|tool| {
        Command::new(tool).arg("--help").output().is_ok_and(|output| output.status.success())
    })
}

/// Searches PATH and the directories of system tools (a user's PATH often lacks sbin).
fn in_system(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin"].map(Into::into);
    std::env::split_paths(&path).chain(system).any(|dir| dir.join(tool).exists())
}
