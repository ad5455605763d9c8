//! Compiles one module into the cache. An interrupted build continues from Go's own build cache.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::module::{Module, Step};
use crate::{cache, go};

/// Interval between progress reports of a build.
const NEWS: Duration = Duration::from_secs(20);
/// Number of the compiler's last lines that are shown when it fails.
const LAST_WORDS: usize = 30;

/// The folder with the module's programs.
pub fn module(module: &Module) -> Result<PathBuf> {
    let go = go::ensure(&module.folder())?;
    let place = cache::dir()?.join(format!("components/{}-{}", module.name, key(module, &go.version)?));
    cache::once(&place, |partial| {
        eprintln!("{}: building {} {}", module.name, module.upstream, module.version()?);
        let started = Instant::now();
        for step in module.steps {
            take(step, module, &go.program, partial)?;
        }
        let size = size(partial)? >> 20;
        eprintln!("{}: built in {} s, {size} MiB", module.name, started.elapsed().as_secs());
        Ok(())
    })?;
    Ok(place)
}

/// Hash of everything that determines the result: the module, the compiler, the flags.
fn key(module: &Module, go_version: &str) -> Result<String> {
    let flags = (module.steps, module.tags, module.linker_flags()?, go_version);
    let mut hash = Sha256::new().chain_update(format!("{flags:?}"));
    let folder = module.folder();
    let mut sources: Vec<_> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    sources
        .retain(|path| path.extension().is_some_and(|name| name == "go" || name == "mod" || name == "sum"));
    sources.sort();
    for path in sources {
        hash.update(fs::read(&path).with_context(|| path.display().to_string())?);
    }
    Ok(hash.finalize().iter().take(8).map(|octet| format!("{octet:02x}")).collect())
}

fn take(step: &Step, module: &Module, go: &Path, into: &Path) -> Result<()> {
    let mut command = Command::new(go);
    command.current_dir(module.folder()).env("CGO_ENABLED", "0").env_remove("GOROOT");
    let output = match step {
        Step::Links { to, names } => {
            names.iter().try_for_each(|name| symlink(to, into.join(name)))?;
            return Ok(());
        }
        Step::Build { output, .. } => {
            command.arg("build");
            output
        }
        Step::Tests { output, .. } => {
            command.args(["test", "-c", "-vet=off"]);
            output
        }
    };
    command.args(["-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-tags", module.tags]);
    command.arg("-ldflags").arg(module.linker_flags()?).arg("-o").arg(into.join(output));
    match step {
        Step::Build { packages, .. } => command.args(*packages),
        Step::Tests { package, .. } => command.arg(package),
        Step::Links { .. } => &mut command,
    };
    watch(module.name, &mut command)
}

/// Runs go, reports the number of compiled packages now and then, and shows the output on failure.
fn watch(name: &str, command: &mut Command) -> Result<()> {
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start go")?;
    let stderr = child.stderr.take().context("no pipe from go")?;
    let (started, mut last_report) = (Instant::now(), Instant::now());
    let (mut compiled, mut words) = (0_u32, Vec::new());
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        // `-v` prints each package's name; all other lines contain a space.
        compiled += u32::from(!line.contains(' '));
        if last_report.elapsed() > NEWS {
            eprintln!("{name}: {compiled} packages compiled in {} s, {line}", started.elapsed().as_secs());
            last_report = Instant::now();
        }
        words.push(line);
    }
    let status = child.wait()?;
    if !status.success() {
        let last = words.len().saturating_sub(LAST_WORDS);
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!("{name}: go {} ({status}):\n{}", arguments.join(" "), words.split_off(last).join("\n"));
    }
    Ok(())
}

/// Octets in a folder; links are not followed.
fn size(folder: &Path) -> Result<u64> {
    let mut octets = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        octets += if kind.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(octets)
}
