//! Finds what building and testing need and installs what is missing: system packages by apt as root, the linker into
//! `target/tools`, Go into the cache. Instant when all is there. Without root it installs what it may and prints the rest
//! as commands.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{bpf, components, privilege, project};

const BPF_LINKER: &str = "0.13.0";
/// Name, version, features.
const RELEASE_TOOLS: [(&str, &str, &[&str]); 2] =
    [("cargo-cyclonedx", "0.5.9", &[]), ("cargo-about", "0.9.3", &["--features", "cli"])];
/// The host compiler links with it; the packages of a distribution's Rust bring it along, rustup does not.
const C_COMPILER: &str = "gcc";

/// Everything: what building needs, what the tests and `xtask run` call, and a Go for the components of a cluster.
pub fn main() -> Result<()> {
    for_running()?;
    components::setup()?;
    eprintln!("setup: everything is in place");
    Ok(())
}

/// What `cargo build` needs.
pub fn for_building() -> Result<()> {
    install(&build_packages())?;
    install_linker()
}

/// What the tests and the demonstration call besides: tools of the network, from the distribution.
pub fn for_running() -> Result<()> {
    let mut packages = build_packages();
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables"), ("ethtool", "ethtool")] {
        if !in_system(tool) {
            packages.push(package);
        }
    }
    install(&packages)?;
    install_linker()
}

/// What the tests on another kernel call.
pub fn for_machine() -> Result<()> {
    if in_system("qemu-system-x86_64") && in_system("apt-get") {
        return Ok(());
    }
    install(&["qemu-system-x86"])
}

/// Debian's names of what is missing for compiling to BPF.
fn build_packages() -> Vec<&'static str> {
    let mut packages = Vec::new();
    if bpf::find_toolchain().is_none() {
        packages.extend(["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"]);
    }
    // The linker is linked against this LLVM, and llvm-strip is part of it.
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

/// What describes a release: its bill of materials, and the licences of what it is made of.
pub fn for_release() -> Result<()> {
    for_building()?;
    for (name, version, features) in RELEASE_TOOLS {
        if !runs(name) {
            install_crate(name, version, features)?;
        }
    }
    Ok(())
}

/// The linker is not in the distribution: built from its crate, for the LLVM of the distribution.
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

/// Whether a tool is there that starts (a linker's LLVM may have gone).
fn runs(name: &str) -> bool {
    let tool = bpf::find_tool(project::root(), name);
    tool.is_some_and(|tool| {
        Command::new(tool).arg("--help").output().is_ok_and(|output| output.status.success())
    })
}

/// In PATH or where system tools live (a user's PATH often lacks sbin).
fn in_system(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin"].map(Into::into);
    std::env::split_paths(&path).chain(system).any(|dir| dir.join(tool).exists())
}
