//! Packages of the distribution, downloaded and unpacked below a folder. Nothing is installed and no privileges are
//! needed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{cache, privilege, project};

/// Kinds of dependencies to exclude with apt-cache.
const HARD: [&str; 6] =
    ["--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"];

/// Unpacks one package at `folder/PACKAGE`, once; returns the path.
pub fn unpack(folder: &Path, package: &str) -> Result<PathBuf> {
    let place = folder.join(package);
    cache::once(&place, |partial| fetch(partial, &[package.to_owned()]))?;
    Ok(place)
}

/// Unpacks packages and their dependencies into one tree at `folder/NAME`, once.
pub fn unpack_all(folder: &Path, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let place = folder.join(name);
    cache::once(&place, |partial| {
        let recurse = ["--recurse"].into_iter().chain(HARD).chain(packages.iter().copied());
        let all: BTreeSet<_> = real_packages(&depends(recurse)?).map(str::to_owned).collect();
        fetch(partial, &all.into_iter().collect::<Vec<_>>())
    })?;
    Ok(place)
}

/// The package's first dependency (for `golang-go` the package with the version in its name).
pub fn first_dependency(package: &str) -> Result<String> {
    let listed = depends(HARD.into_iter().chain([package]))?;
    let first = listed.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    first.map(str::to_owned).with_context(|| format!("apt knows nothing that {package} depends on"))
}

fn fetch(into: &Path, packages: &[String]) -> Result<()> {
    let archives = into.join("archives");
    fs::create_dir(&archives).with_context(|| archives.display().to_string())?;
    let mut download = Command::new("apt-get");
    // As root, apt would drop its privileges for this folder and complain that it cannot.
    download.args(["--quiet", "--option", "APT::Sandbox::User=", "download"]).args(packages);
    project::run(download.current_dir(&archives))?;
    for archive in fs::read_dir(&archives)? {
        let archive = archive?.path();
        let status = Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(into).status();
        ensure!(status.context("dpkg-deb")?.success(), "dpkg-deb cannot unpack {}", archive.display());
    }
    fs::remove_dir_all(&archives).with_context(|| archives.display().to_string())
}

/// `apt-cache depends`; downloads the package lists first if there are none.
fn depends<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<String> {
    let arguments: Vec<_> = arguments.collect();
    let ask = || Command::new("apt-cache").arg("depends").args(&arguments).output().context("apt-cache");
    let mut output = ask()?;
    if !output.status.success() && privilege::is_root() {
        project::run(Command::new("apt-get").args(["--quiet", "update"]))?;
        output = ask()?;
    }
    ensure!(
        output.status.success(),
        "apt-cache depends {}: {} (are its lists fetched? `sudo apt-get update`)",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The unindented lines; `<names>` in angle brackets are virtual.
fn real_packages(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter(|line| !line.starts_with([' ', '<']) && !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_packages_are_fetched() {
        let listed = "bash\n  Depends: base-files\n |Depends: <awk>\n<awk>\n    mawk\nlibc6\n";
        assert_eq!(real_packages(listed).collect::<Vec<_>>(), ["bash", "libc6"]);
    }
}
