//! Finds the tools that compile for BPF and compiles one binary of `svc-ebpf` with them.
//!
//! Used by svc-ctl's build script and, through `#[path]`, by xtask (setup lists missing tools, bench builds its own
//! programs). Std only. Nothing here installs or downloads a tool.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// BPF instruction set of kernel 5.12 and later: 32-bit arithmetic, and atomics that return a value.
const CPU: &str = "v3";
const TARGET: &str = "bpfel-unknown-none";
/// `rustc` and bpf-linker must agree on LLVM's major version; Debian's rustc-web and rustup's nightly both use this.
pub const LLVM_BIN: &str = "/usr/lib/llvm-22/bin";
/// Crates that may use unstable features with a stable compiler (`asm_experimental_arch` and intrinsics).
const BOOTSTRAP_CRATES: &str = "aya_ebpf,svc_common,svc_prog,svc_bench";

/// A cargo and rustc that have `core` for BPF or can build it.
#[derive(Debug)]
pub struct Toolchain {
    cargo: Vec<OsString>,
    /// None: cargo finds its own rustc (rustup).
    rustc: Option<PathBuf>,
    /// `core` is built from rust-src instead of coming with the toolchain.
    build_std: bool,
}

/// An explicit pair from the environment, else rustup's nightly, else the distribution's Rust, else the one in PATH.
pub fn find_toolchain() -> Option<Toolchain> {
    let pair = |cargo: OsString, rustc: PathBuf| {
        let build_std = core_for_bpf(Command::new(&rustc).arg("--print=sysroot"))?;
        Some(Toolchain { cargo: vec![cargo], rustc: Some(rustc), build_std })
    };
    if let Some(rustc) = env::var_os("SVC_BPF_RUSTC") {
        return pair(env::var_os("SVC_BPF_CARGO").unwrap_or("cargo".into()), rustc.into());
    }
    let nightly = core_for_bpf(Command::new("rustup").args(["run", "nightly", "rustc", "--print=sysroot"]));
    if let Some(build_std) = nightly {
        let cargo = ["rustup", "run", "nightly", "cargo"].map(OsString::from).to_vec();
        return Some(Toolchain { cargo, rustc: None, build_std });
    }
    pair("/usr/bin/cargo".into(), "/usr/bin/rustc".into()).or_else(|| pair("cargo".into(), "rustc".into()))
}

/// How the compiler whose sysroot the command prints has `core` for BPF: `Some(false)` ready-made, `Some(true)` as
/// source that only a nightly cargo may build, `None` not at all.
fn core_for_bpf(print_sysroot: &mut Command) -> Option<bool> {
    let out =
        print_sysroot.env_remove("RUSTUP_TOOLCHAIN").output().ok().filter(|out| out.status.success())?;
    let rustlib = Path::new(String::from_utf8(out.stdout).ok()?.trim()).join("lib/rustlib");
    let ready = rustlib.join(TARGET).join("lib").read_dir().is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"libcore-"))
        })
    });
    if ready {
        return Some(false);
    }
    rustlib.join("src/rust/library/Cargo.lock").exists().then_some(true)
}

/// Directories to search for tools: the project's own, LLVM's, PATH, cargo's.
pub fn tool_dirs(project: &Path) -> Vec<PathBuf> {
    let mut dirs = vec![project.join("target/tools/bin"), LLVM_BIN.into()];
    dirs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    dirs.extend(env::home_dir().map(|home| home.join(".cargo/bin")));
    dirs
}

pub fn find_tool(project: &Path, name: &str) -> Option<PathBuf> {
    tool_dirs(project).into_iter().map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Missing tools for compiling for BPF, as sentences; empty if there are none.
pub fn missing(project: &Path) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if find_toolchain().is_none() {
        missing.push("a Rust toolchain with `core` for BPF (rustup nightly with rust-src, or Debian's libstd-rust-web-dev-bpf)");
    }
    if find_tool(project, "bpf-linker").is_none() {
        missing.push("bpf-linker");
    }
    missing
}

/// Compiles `bin` of svc-ebpf and writes the object without DWARF (BTF stays) to `out`. Always optimised, because no
/// verifier accepts the panics of a debug build.
pub fn compile(project: &Path, bin: &str, target_dir: &Path, arch: &str, out: &Path) -> Result<(), String> {
    let missing = missing(project);
    let Some(toolchain) = find_toolchain().filter(|_| missing.is_empty()) else {
        return Err(format!(
            "cannot compile for BPF, missing: {}; run `cargo xtask setup`",
            missing.join("; ")
        ));
    };
    let built = target_dir.join(TARGET).join("release").join(bin);
    let status = toolchain
        .build(project, bin, target_dir, arch)
        .status()
        .map_err(|err| format!("{}: {err}", toolchain.cargo[0].display()))?;
    if !status.success() {
        return Err(format!("compiling svc-ebpf for BPF failed ({status}); the compiler's output is above"));
    }
    strip_dwarf(project, &built, out)
}

/// Flags of rustc that replace paths of this machine by general names, so that the same sources give the same program
/// on every machine.
pub fn names_for_paths(project: &Path) -> Vec<String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let places = [(Some(project.to_owned()), "/svc"), (cargo_home, "/cargo")];
    let named = places.into_iter().filter_map(|(path, name)| Some((path?, name)));
    named.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())).collect()
}

impl Toolchain {
    fn build(&self, project: &Path, bin: &str, target_dir: &Path, arch: &str) -> Command {
        let mut flags = vec![
            format!("--cfg=bpf_target_arch=\"{arch}\""),
            "-Cdebuginfo=2".to_owned(),
            format!("-Ctarget-cpu={CPU}"),
            "-Clink-arg=--btf".to_owned(),
            // By default the linker makes calls of memset and memmove that LLVM would inline. They are slower, and each
            // call needs one more stack frame (docs/verifier.md).
            "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        ];
        flags.extend(names_for_paths(project));
        let flags = flags.join("\x1f");
        let mut cargo = Command::new(&self.cargo[0]);
        cargo.args(&self.cargo[1..]).current_dir(project);
        cargo.args(["build", "--locked", "--package", "svc-ebpf", "--bin", bin]);
        // Both halves must have one layout.
        if env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some() {
            cargo.args(["--features", "next-layout"]);
        }
        cargo.args(["--release", "--target", TARGET]);
        // A target directory of its own, to avoid waiting for the outer cargo's lock.
        cargo.arg("--target-dir").arg(target_dir);
        if self.build_std {
            cargo.arg("-Zbuild-std=core");
        }
        for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_outer_cargo(name)) {
            cargo.env_remove(name);
        }
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        cargo
            .env("RUSTC_BOOTSTRAP", if self.build_std { "1" } else { BOOTSTRAP_CRATES })
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env("PATH", env::join_paths(tool_dirs(project)).unwrap_or_default());
        cargo
    }
}

/// The outer cargo's variables describe the host build and must not reach the inner cargo. Those for registry access
/// must.
fn belongs_to_outer_cargo(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let kept = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];
    name == "RUSTUP_TOOLCHAIN"
        || name.starts_with("RUSTC")
        || name.starts_with("RUSTFLAGS")
        || (name.starts_with("CARGO_") && !kept.iter().any(|prefix| name.starts_with(prefix)))
}

fn strip_dwarf(project: &Path, built: &Path, out: &Path) -> Result<(), String> {
    let copied = std::fs::copy(built, out).map_err(|err| format!("{}: {err}", built.display()))?;
    let Some(strip) = find_tool(project, "llvm-strip") else { return Ok(()) };
    match Command::new(&strip).arg("-g").arg(out).status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("{} -g ({copied} bytes): {other:?}", strip.display())),
    }
}
