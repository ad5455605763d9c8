//! Embeds the kernel programs: writes the object that `dataplane::object` includes to `OUT_DIR/svc-prog`.
//!
//! `SVC_BPF_OBJ=file` uses a ready object (packagers, machines without a BPF toolchain). Otherwise svc-ebpf is
//! compiled here, once for debug and release builds of the daemon.

#[path = "build/bpf.rs"]
mod bpf;

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    if let Err(message) = embed() {
        println!("cargo::error={message}");
    }
}

fn embed() -> Result<(), String> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let project = manifest_dir.parent().ok_or("svc-ctl stands outside its workspace")?;
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    rerun_if_changed(project);

    let object = out_dir.join("svc-prog");
    if let Some(ready) = env::var_os("SVC_BPF_OBJ").map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", ready.display());
        return match std::fs::copy(&ready, &object) {
            Ok(_) => Ok(()),
            Err(err) => Err(format!("SVC_BPF_OBJ={}: {err}", ready.display())),
        };
    }
    bpf::compile(project, "svc-prog", &bpf_target_dir(&out_dir), &variable("CARGO_CFG_TARGET_ARCH")?, &object)
}

/// The folder `bpf` in the target directory, so that every profile and target shares one build of the programs.
fn bpf_target_dir(out_dir: &Path) -> PathBuf {
    // With an explicit target, cargo adds a tagged folder of that name.
    let triple = env::var_os("TARGET").unwrap_or_default();
    let mut tagged = out_dir.ancestors().filter(|dir| dir.join("CACHEDIR.TAG").exists());
    let target = tagged.find(|dir| dir.file_name() != Some(&triple));
    target.unwrap_or(out_dir).join("bpf")
}

fn rerun_if_changed(project: &Path) {
    let sources = ["svc-ebpf/src", "svc-ebpf/Cargo.toml", "svc-common/src", "svc-common/Cargo.toml"];
    let build = ["svc-ctl/build.rs", "svc-ctl/build", "Cargo.toml", "Cargo.lock"];
    for path in sources.iter().chain(&build) {
        println!("cargo::rerun-if-changed={}", project.join(path).display());
    }
    for name in ["SVC_BPF_OBJ", "SVC_BPF_CARGO", "SVC_BPF_RUSTC"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|err| format!("{name}: {err} (is this run by cargo?)"))
}
