//! The parts of the program: a bill of materials (CycloneDX), and the licences of all crates with their texts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{bpf, project};

/// The bill of materials. The tool writes one beside every Cargo.toml of the workspace. The one of svc-ctl is used, and
/// all are removed.
pub fn materials(time: u64) -> Result<Vec<u8>> {
    let name = "svc-ctl.cdx";
    let mut cyclonedx = tool("cargo-cyclonedx")?;
    cyclonedx.args(["cyclonedx", "--format", "json", "--override-filename", name, "--quiet"]);
    cyclonedx.arg("--manifest-path").arg(project::root().join("svc-ctl/Cargo.toml"));
    // The tool's option to leave out today's time and a random number.
    cyclonedx.env("SOURCE_DATE_EPOCH", time.to_string());
    let made = super::output(&mut cyclonedx);
    let mut text = None;
    for folder in members()? {
        let file = folder.join(name).with_extension("cdx.json");
        if folder.ends_with("svc-ctl") {
            text = fs::read_to_string(&file).ok();
        }
        let _ = fs::remove_file(file);
    }
    made?;
    Ok(without_places(&text.context("cargo-cyclonedx wrote nothing for svc-ctl")?).into_bytes())
}

/// The folders of the workspace's packages.
fn members() -> Result<Vec<PathBuf>> {
    let said = super::output(project::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_slice(&said).context("cargo metadata")?;
    let manifests = metadata["packages"].as_array().into_iter().flatten();
    let manifests = manifests.filter_map(|package| package["manifest_path"].as_str());
    Ok(manifests.filter_map(|manifest| Some(Path::new(manifest).parent()?.to_owned())).collect())
}

/// The tool names packages of the workspace by their folders on this machine, which are removed.
fn without_places(text: &str) -> String {
    text.replace(&project::root().display().to_string(), "/svc")
}

/// Fails where a crate has a licence that `about.toml` does not accept.
pub fn licences() -> Result<Vec<u8>> {
    let folder = project::root().join("xtask/src/dist");
    // Texts come from the crates themselves, also of those for other machines; nothing else is asked over the network.
    project::run(project::cargo().args(["fetch", "--locked"]))?;
    let mut about = tool("cargo-about")?;
    about.args(["generate", "--frozen", "--fail"]);
    about.arg("--manifest-path").arg(project::root().join("svc-ctl/Cargo.toml"));
    about.arg("--config").arg(folder.join("about.toml")).arg(folder.join("about.hbs"));
    super::output(&mut about)
}

fn tool(name: &str) -> Result<Command> {
    let path: PathBuf = bpf::find_tool(project::root(), name)
        .with_context(|| format!("no {name}; run `cargo xtask setup`"))?;
    let mut command = Command::new(path);
    command.current_dir(project::root());
    Ok(command)
}
