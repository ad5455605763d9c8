//! A root file system for one boot: files with the libraries they need, packed as the kernel unpacks it (cpio "newc").

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// Path in the file system -> what is there.
#[derive(Default)]
pub struct Initramfs {
    entries: BTreeMap<PathBuf, Entry>,
}

enum Entry {
    Folder,
    Program(Vec<u8>),
    Link(PathBuf),
}

impl Initramfs {
    pub fn folder(&mut self, path: impl Into<PathBuf>) {
        let path = path.into();
        if let Some(parent) = path.parent().filter(|parent| parent.components().count() > 1) {
            self.folder(parent);
        }
        self.entries.entry(path).or_insert(Entry::Folder);
    }

    pub fn file(&mut self, path: impl Into<PathBuf>, content: Vec<u8>) {
        let path = path.into();
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.entries.insert(path, Entry::Program(content));
    }

    pub fn link(&mut self, path: impl Into<PathBuf>, to: impl Into<PathBuf>) {
        self.entries.insert(path.into(), Entry::Link(to.into()));
    }

    /// A program of this machine under a name of its own in `/bin`, and its libraries where they are here.
    pub fn program(&mut self, name: &str, path: &Path) -> Result<()> {
        self.file(Path::new("/bin").join(name), read(path)?);
        let libraries = Command::new("ldd").arg(path).output().context("ldd")?;
        for word in
            String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/'))
        {
            if !self.entries.contains_key(Path::new(word)) {
                self.file(word, read(Path::new(word))?);
            }
        }
        Ok(())
    }

    /// Everything below a folder of this machine.
    pub fn tree(&mut self, path: &Path, from: &Path) -> Result<()> {
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let (entry, inner) = (entry?, path.to_path_buf());
            let inner = inner.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.tree(&inner, &entry.path())?;
            } else {
                self.file(inner, read(&entry.path())?);
            }
        }
        Ok(())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let mut archive = Vec::new();
        for (number, (name, entry)) in self.entries.iter().enumerate() {
            let (mode, content): (u32, &[u8]) = match entry {
                Entry::Folder => (0o040_755, &[]),
                Entry::Program(content) => (0o100_755, content),
                Entry::Link(to) => (0o120_777, to.as_os_str().as_encoded_bytes()),
            };
            append(&mut archive, number as u32 + 1, mode, name, content);
        }
        append(&mut archive, 0, 0, Path::new("TRAILER!!!"), &[]);
        fs::write(path, archive).with_context(|| path.display().to_string())
    }
}

/// One member: thirteen fields of eight hexadecimal digits, name, content, each padded to four octets.
fn append(archive: &mut Vec<u8>, inode: u32, mode: u32, name: &Path, content: &[u8]) {
    let name = name.as_os_str().as_encoded_bytes();
    let name = name.strip_prefix(b"/").unwrap_or(name);
    let fields = [inode, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    archive.extend(name);
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_padded_to_words() {
        let mut archive = Vec::new();
        append(&mut archive, 1, 0o100_755, Path::new("/init"), b"hello");
        assert!(archive.starts_with(b"07070100000001000081ed"));
        assert_eq!(archive.len(), (6 + 13 * 8 + 6_usize).next_multiple_of(4) + 8);
        assert_eq!(&archive[116..121], b"hello");
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut root = Initramfs::default();
        root.file("/a/b/c", vec![1]);
        let names: Vec<_> = root.entries.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["/a", "/a/b", "/a/b/c"]);
    }
}
