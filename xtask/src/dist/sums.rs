//! `SHA256SUMS`, in the form that `sha256sum --check` reads.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::file_tree::read;

pub const FILE: &str = "SHA256SUMS";

/// Writes the sums of all files in a folder, in the order of their names.
pub fn write(folder: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name != FILE);
    names.sort();
    let mut text = String::new();
    for name in names {
        let hash = Sha256::digest(read(&folder.join(&name))?);
        let digits: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
        text.push_str(&format!("{digits}  {name}\n"));
    }
    super::write(&folder.join(FILE), text.as_bytes())
}

/// Names of the files whose sums differ between two texts, or that only one of them has.
pub fn differences<'a>(first: &'a str, second: &'a str) -> Vec<&'a str> {
    let only_in = |one: &'a str, other: &'a str| {
        one.lines().filter(move |line| other.lines().all(|known| known != *line))
    };
    let lines = only_in(first, second).chain(only_in(second, first));
    let mut names: Vec<_> = lines.filter_map(|line| line.split_whitespace().nth(1)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_sha256sum_and_a_changed_or_missing_file_is_named() {
        let folder = crate::project::target_dir().join("tmp").join(format!("sums-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("b"), "abc").unwrap();
        fs::write(folder.join("a"), "").unwrap();
        write(&folder).unwrap();
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a";
        assert_eq!(text, format!("{empty}\n{abc}\n"));
        assert_eq!(differences(&text, &text), [""; 0]);
        assert_eq!(differences(&text, "00  a\n"), ["a", "b"]);
        fs::remove_dir_all(folder).unwrap();
    }
}
