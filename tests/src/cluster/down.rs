//! `down`: removes everything with a cluster's name, also after an unfinished start.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::hierarchies;
use super::settings::Settings;
use crate::{cgroup, netns};

/// Also works if there is nothing, or only a part.
pub fn down(settings: &Settings) -> Result<()> {
    let _alone = alone(settings)?;
    remove(settings)
}

pub(super) fn remove(settings: &Settings) -> Result<()> {
    // Processes first: their mounts and unnamed namespaces end with them.
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
    netns::names().into_iter().filter(|name| is_of(settings, name)).collect()
}

/// The namespace is this cluster's. Another cluster's name may begin with this one's.
fn is_of(settings: &Settings, namespace: &str) -> bool {
    let host = namespace.strip_prefix(&settings.host("")).unwrap_or_default();
    let is_node = |word: &str| word.strip_prefix('n').is_some_and(|index| index.parse::<u8>().is_ok());
    ["hub", "client"].contains(&host) || is_node(host)
}

/// Mounts in the machine's own mount namespace, where nodes make none.
fn mounts(settings: &Settings) -> Vec<String> {
    let dir = settings.dir.display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(&dir)).map(|point| format!("mount {point}")).collect()
}

/// Locks the cluster: two concurrent runs would remove each other's parts. The name of a socket ends with its process
/// and leaves nothing behind.
pub(super) fn alone(settings: &Settings) -> Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(&settings.name)?;
    UnixListener::bind_addr(&name)
        .with_context(|| format!("{}: another run is making or removing it", settings.name))
}
