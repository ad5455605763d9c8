//! Files of the run directory, which show commands the state of the daemon and outlive it.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use serde::de::DeserializeOwned;

/// The contents of a JSON file; `None` without the file.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Writes a new file and renames it over the old one, so that a reader sees a whole file. It need not survive a power cut.
pub fn replace(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let beside = path.with_file_name(format!(".{}.{}", name.display(), std::process::id()));
    fs::write(&beside, contents)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("writing {}", path.display()))
}

/// Removes the file, if there is one.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
