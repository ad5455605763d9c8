//! Archives of images for the nodes to import.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tar::Archive;

/// File of an OCI archive that lists its contents.
const INDEX: &str = "index.json";
const NAME: &str = "io.containerd.image.name";

/// Every `*.tar` of the folder, sorted.
pub(super) fn archives(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read SVC_CLUSTER_IMAGES={}", dir.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut tars: Vec<_> = paths.filter(|path| path.extension().is_some_and(|word| word == "tar")).collect();
    tars.sort();
    Ok(tars)
}

/// The pause image, which keeps a pod's namespaces.
pub(super) fn pause(archives: &[PathBuf]) -> Result<String> {
    find(archives, "/pause:")?.context("no image is a pause; every pod needs one")
}

pub(super) fn find(archives: &[PathBuf], part: &str) -> Result<Option<String>> {
    for archive in archives {
        if let Some(name) = names(archive)?.into_iter().find(|name| name.contains(part)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn names(archive: &Path) -> Result<Vec<String>> {
    let index = read_index(archive).with_context(|| format!("read {}", archive.display()))?;
    let manifests = index["manifests"].as_array().into_iter().flatten();
    let names = manifests.filter_map(|manifest| manifest["annotations"][NAME].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn read_index(archive: &Path) -> Result<Value> {
    for entry in Archive::new(File::open(archive)?).entries()? {
        let entry = entry?;
        if entry.path()?.as_ref() == Path::new(INDEX) {
            return serde_json::from_reader(entry).context("parse the index");
        }
    }
    anyhow::bail!("no {INDEX}: not an OCI archive")
}
