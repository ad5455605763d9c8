//! A root file system as a value, to be packed for a boot (cpio) or a container (tar).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tar::{Builder, EntryType, Header};

/// Absolute path -> entry; a folder comes before its contents.
#[derive(Debug, Default)]
pub struct FileTree(BTreeMap<PathBuf, Entry>);

#[derive(Debug)]
pub enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { to: PathBuf },
}

impl FileTree {
    pub fn folder(&mut self, path: impl Into<PathBuf>) {
        self.folder_with_mode(path, 0o755);
    }

    /// An existing folder keeps its mode.
    pub fn folder_with_mode(&mut self, path: impl Into<PathBuf>, mode: u32) {
        let path = path.into();
        self.folders_above(&path);
        self.0.entry(path).or_insert(Entry::Folder { mode });
    }

    pub fn file(&mut self, path: impl Into<PathBuf>, content: Vec<u8>) {
        self.insert(path.into(), Entry::File { mode: 0o644, content });
    }

    pub fn program(&mut self, path: impl Into<PathBuf>, content: Vec<u8>) {
        self.insert(path.into(), Entry::File { mode: 0o755, content });
    }

    pub fn link(&mut self, path: impl Into<PathBuf>, to: impl Into<PathBuf>) {
        self.insert(path.into(), Entry::Link { to: to.into() });
    }

    /// Everything below a folder of this machine.
    pub fn tree(&mut self, path: &Path, from: &Path) -> Result<()> {
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            let inner = path.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.tree(&inner, &entry.path())?;
            } else {
                self.file(inner, read(&entry.path())?);
            }
        }
        Ok(())
    }

    pub fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// As a tar: owned by root, all of one time (seconds since 1970), in the order of names.
    pub fn tar(&self, time: u64) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, entry) in self.entries() {
            let name = path.strip_prefix("/").unwrap_or(path);
            let mut header = Header::new_gnu();
            header.set_mtime(time);
            header.set_size(0);
            match entry {
                Entry::Folder { mode } => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(*mode);
                    archive.append_data(&mut header, name, &[][..])
                }
                Entry::File { mode, content } => {
                    header.set_size(content.len() as u64);
                    header.set_mode(*mode);
                    archive.append_data(&mut header, name, content.as_slice())
                }
                Entry::Link { to } => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_mode(0o777);
                    archive.append_link(&mut header, name, to)
                }
            }
            .with_context(|| path.display().to_string())?;
        }
        Ok(archive.into_inner()?)
    }

    fn insert(&mut self, path: PathBuf, entry: Entry) {
        self.folders_above(&path);
        self.0.insert(path, entry);
    }

    fn folders_above(&mut self, path: &Path) {
        if let Some(parent) = path.parent().filter(|parent| parent.components().count() > 1) {
            self.folder(parent);
        }
    }
}

/// Reads a file of this machine; the error names it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_their_contents() {
        let mut root = FileTree::default();
        root.file("/a/b/c", vec![1]);
        root.folder_with_mode("/a", 0o700);
        let names: Vec<_> = root.entries().map(|(path, _)| path.display().to_string()).collect();
        assert_eq!(names, ["/a", "/a/b", "/a/b/c"]);
        assert!(matches!(root.0.get(Path::new("/a")), Some(Entry::Folder { mode: 0o755 })));
    }
}
