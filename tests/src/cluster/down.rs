//! `down`: everything of a cluster goes, found by its name, whoever made it and however that ended.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::hierarchies;
use super::settings::Settings;
use crate::{cgroup, netns};

/// Also right when there is nothing, or only half.
pub fn down(settings: &Settings) -> Result<()> {
    // Processes first: with them go their mounts and nameless namespaces.
    cgroup::remove(&cgroup::mount_point()?.join(&settings.name));
    hierarchies::remove(Path::new(&settings.name));
    namespaces(settings).iter().for_each(|name| netns::remove(name));
    if settings.dir.exists() {
        let gone = fs::remove_dir_all(&settings.dir);
        gone.with_context(|| format!("remove {}", settings.dir.display()))?;
    }
    let left = left(settings);
    ensure!(left.is_empty(), "still there: {}", left.join(", "));
    Ok(())
}

pub(super) fn is_anything_left(settings: &Settings) -> bool {
    !left(settings).is_empty()
}

fn left(settings: &Settings) -> Vec<String> {
    let cgroups = hierarchies::left(Path::new(&settings.name)).into_iter();
    let dir = Some(settings.dir.clone()).filter(|dir| dir.exists());
    let paths = cgroups.chain(dir).map(|path| path.display().to_string());
    paths.chain(namespaces(settings)).chain(mounts(settings)).collect()
}

fn namespaces(settings: &Settings) -> Vec<String> {
    let prefix = settings.host("");
    netns::names().into_iter().filter(|name| name.starts_with(&prefix)).collect()
}

/// Mounts on the machine itself, where a node never makes any.
fn mounts(settings: &Settings) -> Vec<String> {
    let dir = settings.dir.display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(&dir)).map(|point| format!("mount {point}")).collect()
}
