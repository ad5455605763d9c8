//! `cargo xtask dist`: the files of a release, in one folder with their checksums. The same commit gives the same octets,
//! wherever the sources are: times are the commit's, paths have other names. `--twice` proves it.

mod chart;
mod inventory;
#[cfg(test)]
mod release_texts;
mod sums;
mod twice;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, GzBuilder};

use crate::file_tree::{FileTree, read};
use crate::image::debian_tree::is_static;
use crate::image::oci::architecture;
use crate::{build, image, project, setup};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Shells whose completions are in the archive, and the file that each reads.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/svc-ctl"),
    ("zsh", "share/zsh/site-functions/_svc-ctl"),
    ("fish", "share/fish/vendor_completions.d/svc-ctl.fish"),
];
/// Files of the repository that a user of the archive reads.
const TEXTS: [&str; 5] = ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-APACHE", "LICENSE-MIT"];

#[derive(clap::Args)]
pub struct Args {
    /// Where to write the files; earlier contents are removed (default: target/dist)
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Make everything again from a clone of the commit in another folder, and fail if one octet differs
    #[arg(long)]
    twice: bool,
}

pub fn main(args: &Args) -> Result<()> {
    if args.twice {
        twice::ensure_committed()?;
    }
    setup::for_release()?;
    let folder = args.output.clone().unwrap_or_else(|| project::target_dir().join("dist"));
    let folder = std::path::absolute(folder)?;
    release(&folder)?;
    if args.twice {
        twice::compare(&folder)?;
    }
    println!("{}", folder.display());
    Ok(())
}

fn release(folder: &Path) -> Result<()> {
    // Files of an earlier release would get checksums too.
    empty(folder)?;
    let time = commit_time()?;
    let program = build::svc_ctl()?;
    let content = read(&program)?;
    ensure!(is_static(&content)?, "{} needs a loader or a library", program.display());

    let platform = format!("linux-{}", architecture());
    let licences = inventory::licences()?;
    write(&folder.join(format!("svc-{VERSION}-licenses.txt")), &licences)?;
    write(&folder.join(format!("svc-ctl-{VERSION}.cdx.json")), &inventory::materials(time)?)?;
    let name = format!("svc-{VERSION}-{platform}");
    let tree = archive(&name, &program, licences)?;
    write(&folder.join(format!("{name}.tar.gz")), &gzip(&tree.tar(time)?)?)?;
    let image_path = folder.join(format!("svc-{VERSION}-{platform}-image.tar"));
    let written = image::of_program(&image::name("svc"), content)?.write(&image_path)?;
    eprintln!("image {}: {}", image::name("svc"), written.digest);
    chart::package(folder, time)?;
    sums::write(folder)
}

/// The archive: one folder with the program, its manual and completions, and the licences.
fn archive(name: &str, program: &Path, licences: Vec<u8>) -> Result<FileTree> {
    let root = Path::new("/").join(name);
    let mut tree = FileTree::default();
    tree.program(root.join("bin/svc-ctl"), read(program)?);
    let manual = fresh_folder("man")?;
    output(Command::new(program).arg("man").arg(&manual))?;
    tree.tree(&root.join("share/man/man1"), &manual)?;
    for (shell, place) in COMPLETIONS {
        tree.file(root.join(place), output(Command::new(program).args(["completions", shell]))?);
    }
    for text in TEXTS {
        tree.file(root.join(text), read(&project::root().join(text))?);
    }
    tree.file(root.join("licenses.txt"), licences);
    Ok(tree)
}

/// Without name and time in its header.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}

/// Seconds since 1970: SOURCE_DATE_EPOCH, else the time of the commit.
fn commit_time() -> Result<u64> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let text = match given {
        Some(text) => text,
        None => git(&["log", "-1", "--format=%ct"]).context("SOURCE_DATE_EPOCH is not set")?,
    };
    text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH: {text:?} is no number of seconds"))
}

fn git(arguments: &[&str]) -> Result<String> {
    let said = output(Command::new("git").args(arguments).current_dir(project::root()))?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

/// Runs a program without showing its output, and returns its standard output.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    ensure!(
        output.status.success(),
        "{name} {}: {}: {}",
        command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// An empty folder for intermediate files.
fn fresh_folder(name: &str) -> Result<PathBuf> {
    let folder = project::target_dir().join("dist-work").join(name);
    empty(&folder)?;
    Ok(folder)
}

fn empty(folder: &Path) -> Result<()> {
    let context = || folder.display().to_string();
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(context)?;
    }
    fs::create_dir_all(folder).with_context(context)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_the_same_files_has_the_same_octets_and_the_time_that_it_was_given() {
        let pack = || {
            let mut tree = FileTree::default();
            tree.program("/svc/bin/svc-ctl", vec![7; 1000]);
            tree.file("/svc/licences", b"read".to_vec());
            tree.tar(86_400).unwrap()
        };
        assert_eq!(gzip(&pack()).unwrap(), gzip(&pack()).unwrap());
        let archive = pack();
        let mut archive = tar::Archive::new(archive.as_slice());
        for entry in archive.entries().unwrap() {
            assert_eq!(entry.unwrap().header().mtime().unwrap(), 86_400);
        }
    }
}
