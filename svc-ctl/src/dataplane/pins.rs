//! Where everything is pinned: maps below a folder named by the ABI version, links beside it by hook and interface,
//! so that an upgrade takes the old program's place and two versions never share a map.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use svc_common::abi::ABI_VERSION;

/// The pin directory of one node.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Opens or makes the directory. One that does not lie on a bpffs gets one mounted if it is a standard mount
    /// point; elsewhere the error says what is missing.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        if !is_bpffs(nearest(root)) {
            let mount_point = Path::new("/sys/fs/bpf");
            if !root.starts_with(mount_point) {
                bail!("--pin-dir {}: not on a bpffs (mount -t bpf bpffs DIR)", root.display());
            }
            mount(Some("bpffs"), mount_point, Some("bpf"), MsFlags::empty(), None::<&str>)
                .with_context(|| format!("--pin-dir {}: mounting a bpffs at /sys/fs/bpf", root.display()))?;
        }
        let pins = Self { root: root.to_owned() };
        for dir in [pins.maps(), pins.links()] {
            std::fs::create_dir_all(&dir).with_context(|| format!("--pin-dir: making {}", dir.display()))?;
        }
        Ok(pins)
    }

    /// An existing directory, for commands that only look.
    pub fn existing(root: &Path) -> anyhow::Result<Self> {
        let pins = Self { root: root.to_owned() };
        if !pins.maps().is_dir() {
            bail!("--pin-dir {}: nothing of ABI version {ABI_VERSION} is pinned there", root.display());
        }
        Ok(pins)
    }

    /// Maps of this ABI version.
    pub fn maps(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Links of any version.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    /// Folders of maps of other ABI versions.
    pub fn other_versions(&self) -> io::Result<Vec<PathBuf>> {
        let mut others = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let path = entry?.path();
            if path.is_dir() && path != self.maps() && path != self.links() {
                others.push(path);
            }
        }
        Ok(others)
    }

    /// Names of the pinned links.
    pub fn link_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.links())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Removes every pin and the directory itself. What the kernel holds only by a pin goes with it.
    pub fn remove(root: &Path) -> anyhow::Result<usize> {
        let mut removed = 0;
        if !root.exists() {
            return Ok(0);
        }
        for entry in std::fs::read_dir(root).with_context(|| format!("--pin-dir {}", root.display()))? {
            let dir = entry?.path();
            if !dir.is_dir() {
                continue;
            }
            for pin in std::fs::read_dir(&dir)? {
                let pin = pin?.path();
                std::fs::remove_file(&pin).with_context(|| format!("removing {}", pin.display()))?;
                removed += 1;
            }
            std::fs::remove_dir(&dir)?;
        }
        std::fs::remove_dir(root).with_context(|| format!("removing {}", root.display()))?;
        Ok(removed)
    }
}

/// The closest ancestor that exists.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"))
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}
