//! Names of everything that a run makes (`svc-PID-TEST`), and paths of its files.

use std::env;
use std::path::{Path, PathBuf};

/// The prefix of all names in a topology. It contains the owner's pid, so that leftovers can be recognised.
#[derive(Clone, Debug)]
pub struct RunName(String);

impl RunName {
    /// `svc-<pid>-<test>`, without characters that paths or nft identifiers do not allow.
    pub fn new(test: &str) -> Self {
        let plain: String = test
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        Self(format!("svc-{}-{plain}", std::process::id()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn host(&self, host: &str) -> String {
        format!("{}-{host}", self.0)
    }

    /// A folder of this topology below the project's target folder.
    pub fn dir(&self) -> PathBuf {
        scratch_dir().join(&self.0)
    }
}

/// The pid in a name made by [`RunName`].
pub fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("svc-")?.split('-').next()?.parse().ok()
}

/// The name is one of ours and its owner has ended.
pub fn is_stale(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or(dir.into()),
        None => workspace_dir().join("target"),
    }
}

pub fn workspace_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Folder for everything that a run writes to disk.
pub fn scratch_dir() -> PathBuf {
    target_dir().join("svc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_contains_its_owner() {
        assert_eq!(owner("svc-12-a-b"), Some(12));
        assert_eq!(owner("svc-x"), None);
        assert_eq!(owner("cni-12"), None);
        assert_eq!(owner(RunName::new("Two Words").as_str()), Some(std::process::id()));
    }
}
