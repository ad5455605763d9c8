//! A root file system for one boot: programs of this machine with their libraries, packed in the kernel's format
//! (cpio "newc").

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::file_tree::{Entry, FileTree, read};

/// A program of this machine under another name in `/bin`, and its libraries at their own paths.
pub fn add_program(root: &mut FileTree, name: &str, path: &Path) -> Result<()> {
    root.program(Path::new("/bin").join(name), read(path)?);
    let libraries = Command::new("ldd").arg(path).output().context("ldd")?;
    let words = String::from_utf8_lossy(&libraries.stdout).into_owned();
    for library in words.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        if !root.contains(library) {
            root.program(library, read(library)?);
        }
    }
    Ok(())
}

pub fn pack(root: &FileTree, path: &Path) -> Result<()> {
    let mut archive = Vec::new();
    for (number, (name, entry)) in root.entries().enumerate() {
        let (mode, content): (u32, &[u8]) = match entry {
            Entry::Folder { mode } => (0o040_000 | mode, &[]),
            Entry::File { mode, content } => (0o100_000 | mode, content),
            Entry::Link { to } => (0o120_777, to.as_os_str().as_encoded_bytes()),
        };
        append(&mut archive, number as u32 + 1, mode, name, content);
    }
    append(&mut archive, 0, 0, Path::new("TRAILER!!!"), &[]);
    fs::write(path, archive).with_context(|| path.display().to_string())
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
}
