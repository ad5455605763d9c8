//! The network namespaces of this machine that are visible from here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The daemon's own namespace first, then the namespaces of processes and those named in `dirs`, without duplicates.
/// A container sees only its own processes; the names are mounted into it.
pub fn all(dirs: &[PathBuf]) -> Vec<File> {
    let of_process = |path: PathBuf| path.join("ns/net");
    let own = of_process("/proc/self".into());
    let processes = entries(Path::new("/proc")).filter(|path| is_process(path)).map(of_process);
    let named = dirs.iter().flat_map(|dir| entries(dir));
    // All namespaces are files of one file system. A name that an unclean end has left behind is a file of another file
    // system.
    let Ok(device) = fs::metadata(&own).map(|own| own.dev()) else { return Vec::new() };
    let mut seen = BTreeSet::new();
    let is_new =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.dev() == device && seen.insert(file.ino()));
    [own].into_iter().chain(processes).chain(named).filter(is_new).flat_map(File::open).collect()
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_process(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_listed_once_whatever_names_it_has() {
        let dir = std::env::temp_dir().join(format!("svc-netns-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("left-over"), "").unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", dir.join("own")).unwrap();
        let found = all(&[dir.clone(), "/nonexistent".into()]);
        fs::remove_dir_all(&dir).unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let inodes: Vec<u64> = found.iter().map(|file| file.metadata().unwrap().ino()).collect();
        assert_eq!(inodes.first(), Some(&own));
        assert_eq!(inodes.iter().collect::<BTreeSet<_>>().len(), inodes.len(), "{inodes:?}");
    }
}
