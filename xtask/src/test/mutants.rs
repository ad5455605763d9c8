//! The tier mutants: the pipeline with one mistake, compiled like the real one and given to the tier `differential`,
//! which must notice. If it does not, the model does not cover that code.
//!
//! A mutant is text that occurs once in a file, and its replacement; a mutant whose text is missing fails. The first case
//! is the control: the unchanged pipeline, which must not be noticed.

mod table;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};

use super::harness::{Count, Results, TestBinary, stream};
use crate::privilege::Privilege;
use crate::{bpf, project};
use table::{MUTANTS, Mutant};

/// The tier that must notice a mutant.
const WITNESS: &str = "differential";

/// Name of the case without a mistake.
const CONTROL: &str = "unchanged";

pub fn count_cases() -> u64 {
    MUTANTS.len() as u64 + 1
}

pub fn run(binaries: &[TestBinary], privilege: Privilege, filter: Option<&str>) -> Result<Results> {
    let witness = binaries.iter().find(|binary| binary.tier == WITNESS);
    let witness = witness.context("the tier differential has no binary")?;
    let source = copy_of_sources()?;
    let cases = [(CONTROL, None)].into_iter().chain(MUTANTS.iter().map(|mutant| (mutant.name, Some(mutant))));
    let chosen = cases.filter(|(name, _)| filter.is_none_or(|f| name.contains(f)));
    // The compiler keeps one core busy, and so does the tier: the next mutant is compiled while it judges this one.
    let (compiled, objects) = mpsc::sync_channel(0);
    Ok(thread::scope(|scope| {
        scope.spawn(move || {
            for (number, (name, mutant)) in chosen.enumerate() {
                let object = make(mutant, &source, &format!("svc-prog-{}", number % 2));
                if compiled.send((name, mutant, object)).is_err() {
                    return;
                }
            }
        });
        let mut results = Results::default();
        for (name, mutant, object) in objects {
            let caught = object.and_then(|object| is_caught(witness, privilege, &object));
            judge(name, mutant.is_some(), caught, &mut results);
        }
        results
    }))
}

/// Prints and counts whether the tier noticed the mutant, or noticed something in the pipeline without a mistake.
fn judge(name: &str, is_mutant: bool, caught: Result<bool>, results: &mut Results) {
    match caught {
        Ok(is_caught) if is_caught == is_mutant => {
            println!("mutant {name:?} ... {}", if is_mutant { "caught" } else { "accepted" });
            results.counts.push(Count { passed: 1, ..Count::default() });
        }
        Ok(_) if is_mutant => results.fail(format!("mutant {name:?} ... NOT CAUGHT")),
        Ok(_) => results.fail("the tier disagrees with the unchanged pipeline".to_owned()),
        Err(error) => results.fail(format!("mutant {name:?} ... {error:#}")),
    }
}

/// A workspace with a copy of the kernel programs' sources, to be changed, and the real rest.
fn copy_of_sources() -> Result<PathBuf> {
    let source = project::target_dir().join("mutants/source");
    fs::create_dir_all(&source)?;
    for name in ["Cargo.toml", "Cargo.lock"] {
        copy(&project::root().join(name), &source.join(name))?;
    }
    for name in ["svc-ctl", "tests", "xtask", "target"] {
        let link = source.join(name);
        if !link.exists() {
            symlink(project::root().join(name), &link).with_context(|| link.display().to_string())?;
        }
    }
    Ok(source)
}

/// Restores the sources, makes the mistake if there is one, and compiles an object of that name.
fn make(mutant: Option<&Mutant>, source: &Path, name: &str) -> Result<PathBuf> {
    for name in ["svc-common", "svc-ebpf"] {
        copy_tree(&project::root().join(name), &source.join(name))?;
    }
    if let Some(mutant) = mutant {
        let path = source.join(mutant.file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let times = text.matches(mutant.from).count();
        ensure!(times == 1, "its text stands {times} times in {}: {}", mutant.file, mutant.from);
        fs::write(&path, text.replace(mutant.from, mutant.to))?;
    }
    let target = project::target_dir().join("mutants/bpf");
    let object = project::target_dir().join("mutants").join(name);
    fs::create_dir_all(&target)?;
    bpf::compile(source, "svc-prog", &target, std::env::consts::ARCH, &object).map_err(anyhow::Error::msg)?;
    Ok(object)
}

/// The mutant is caught if the tier disagrees with it.
fn is_caught(witness: &TestBinary, privilege: Privilege, object: &Path) -> Result<bool> {
    let variables = [("SVC_DIFF_MUTANT", OsString::from(object))];
    let (status, results) = stream(&mut privilege.command(&witness.path, &variables), "")?;
    match results.counts.as_slice() {
        [Count { passed: 1, failed: 0, .. }] => Ok(status.success()),
        [_] => Ok(false),
        _ => bail!("{} ended without a result: {status}", witness.path.display()),
    }
}

/// Unchanged files keep their time, so that cargo compiles only what changed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| from.display().to_string())?;
    if fs::read(to).ok().as_ref() != Some(&new) {
        fs::write(to, new).with_context(|| to.display().to_string())?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() { copy_tree(&entry.path(), &to)? } else { copy(&entry.path(), &to)? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_applies_and_has_a_name_of_its_own() {
        for mutant in MUTANTS {
            let text = fs::read_to_string(project::root().join(mutant.file)).unwrap();
            assert_eq!(text.matches(mutant.from).count(), 1, "{}", mutant.name);
            assert_eq!(MUTANTS.iter().filter(|m| m.name == mutant.name).count(), 1);
        }
    }
}
