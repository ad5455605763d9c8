//! A cache that survives `cargo clean`: `$SVC_CACHE`, else `svc` in the user's cache folder. Each entry is either
//! complete or absent, even if two runs make it at once or one is interrupted.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// `$SVC_CACHE`, `$XDG_CACHE_HOME/svc` or `~/.cache/svc`, absolute.
pub fn dir() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("SVC_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("svc")))
        .or_else(|| env::home_dir().map(|home| home.join(".cache/svc")))
        .context("no folder for the cache: neither SVC_CACHE nor HOME is set")?;
    std::path::absolute(&dir).with_context(|| dir.display().to_string())
}

/// Makes a folder unless it exists: filled under another name, then renamed.
pub fn once(place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if place.exists() {
        return Ok(());
    }
    let context = || place.display().to_string();
    fs::create_dir_all(place.parent().with_context(context)?).with_context(context)?;
    // Locked to the end; a second run then finds the folder.
    let lock = File::create(beside(place, "lock")).with_context(context)?;
    lock.lock().with_context(context)?;
    if place.exists() {
        return Ok(());
    }
    let partial = beside(place, "partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| partial.display().to_string())?;
    }
    fs::create_dir(&partial).with_context(|| partial.display().to_string())?;
    fill(&partial)?;
    fs::rename(&partial, place).with_context(context)
}

fn beside(place: &Path, suffix: &str) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    place.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn an_interrupted_entry_is_made_again_and_a_complete_one_is_kept() {
        let scratch = crate::project::target_dir().join("tmp").join(format!("cache-{}", std::process::id()));
        let place = scratch.join("thing-1.2");
        let interrupted = once(&place, |dir| {
            fs::write(dir.join("half"), "")?;
            bail!("interrupted")
        });
        assert!(interrupted.is_err() && !place.exists());
        once(&place, |dir| Ok(fs::write(dir.join("whole"), "")?)).unwrap();
        once(&place, |_| bail!("made twice")).unwrap();
        assert!(place.join("whole").exists() && !place.join("half").exists());
        fs::remove_dir_all(scratch).unwrap();
    }
}
