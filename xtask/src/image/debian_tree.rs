//! Programs of the distribution for an image: taken from unpacked packages, with their libraries.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn as _, ElfFile, FileHeader as _, ProgramHeader as _};

use crate::file_tree::{FileTree, read};

/// Adds a program, and its libraries where the loader searches.
pub fn add_program(root: &mut FileTree, packages: &Path, from: &str, to: &str) -> Result<()> {
    let content = read(&packages.join(from))?;
    let needs = Needs::of(&content).with_context(|| from.to_owned())?;
    root.program(to, content);
    let library_dirs = library_dirs(packages);
    if let Some(loader) = needs.loader {
        let name = loader.file_name().unwrap_or_default();
        root.program(&loader, find_library(&library_dirs, Path::new(name))?);
    }
    let mut wanted = needs.libraries;
    while let Some(name) = wanted.pop() {
        let place = Path::new("/lib").join(triplet()).join(&name);
        if !root.contains(&place) {
            let content = find_library(&library_dirs, Path::new(&name)).with_context(|| from.to_owned())?;
            wanted.extend(Needs::of(&content).with_context(|| name.clone())?.libraries);
            root.program(place, content);
        }
    }
    Ok(())
}

/// Files that a program needs to start.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    libraries: Vec<String>,
    loader: Option<PathBuf>,
}

/// Whether a program starts without a loader and without libraries.
pub fn is_static(program: &[u8]) -> Result<bool> {
    Ok(Needs::of(program)? == Needs::default())
}

impl Needs {
    /// Reads the needs of a program or library; a static one has none.
    fn of(content: &[u8]) -> Result<Self> {
        let file = ElfFile::<FileHeader64<Endianness>>::parse(content)?;
        let (header, endian) = (file.elf_header(), file.endian());
        let mut needs = Self::default();
        for segment in header.program_headers(endian, content)? {
            if segment.p_type(endian) == PT_INTERP {
                let path = segment.interpreter(endian, content)?.unwrap_or_default();
                needs.loader = Some(String::from_utf8_lossy(path).into_owned().into());
            }
        }
        let sections = header.sections(endian, content)?;
        if let Some((entries, strings)) = sections.dynamic(endian, content)? {
            let strings = sections.strings(endian, content, strings)?;
            for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
                needs.libraries.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
            }
        }
        Ok(needs)
    }
}

fn find_library(dirs: &[PathBuf], name: &Path) -> Result<Vec<u8>> {
    let found = dirs.iter().map(|dir| dir.join(name)).find(|path| path.exists());
    read(&found.with_context(|| format!("no library {} in the packages", name.display()))?)
}

fn library_dirs(packages: &Path) -> Vec<PathBuf> {
    ["lib", "usr/lib"].map(|dir| packages.join(dir).join(triplet())).to_vec()
}

/// The distribution's directory name for libraries of this architecture.
fn triplet() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_loader_and_its_libraries() {
        let this = std::env::current_exe().unwrap();
        let this = read(&this).unwrap();
        assert!(!is_static(&this).unwrap());
        let needs = Needs::of(&this).unwrap();
        assert!(needs.libraries.contains(&"libc.so.6".to_owned()), "{needs:?}");
        assert!(needs.loader.unwrap().file_name().unwrap().to_string_lossy().starts_with("ld-linux"));
    }
}
