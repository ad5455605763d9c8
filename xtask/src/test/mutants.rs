//! The tier mutants: the pipeline with one mistake, compiled like the real one and given to the tier `differential`,
//! which must notice. If it does not, the model does not cover that code.
//!
//! A mutant is text that occurs once in a file, and its replacement; a mutant whose text is missing fails. The first case
//! is the control: the unchanged pipeline, which must not be noticed.

mod table;

use std::ffi::OsString;
use std::fs;
use std::num::NonZero;
use std::os::unix::fs::symlink;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};

use super::cpu;
use super::harness::{Count, Results, Selection, TestBinary, stream};
use crate::privilege::Privilege;
use crate::{bpf, project};
use table::{MUTANTS, Mutant};

/// The tier that must notice a mutant.
const WITNESS: &str = "differential";

/// Name of the case without a mistake.
const CONTROL: &str = "unchanged";

/// Without `--all` and without a filter, one of this many mutants runs. Mutants check the tests, which change less
/// often than the product.
const ONE_OF: usize = 3;

pub fn count_cases(selection: &Selection) -> u64 {
    cases(selection).count() as u64
}

/// The control and the chosen mutants, with their names.
fn cases(selection: &Selection) -> impl Iterator<Item = (&'static str, Option<&'static Mutant>)> + Send {
    let is_part = !selection.all && selection.filter.is_none();
    let mutants = MUTANTS.iter().step_by(if is_part { ONE_OF } else { 1 });
    let cases = [(CONTROL, None)].into_iter().chain(mutants.map(|mutant| (mutant.name, Some(mutant))));
    cases.filter(|(name, _)| selection.filter.as_deref().is_none_or(|filter| name.contains(filter)))
}

pub fn run(binaries: &[TestBinary], privilege: Privilege, selection: &Selection) -> Result<Results> {
    let witness = binaries.iter().find(|binary| binary.tier == WITNESS);
    let witness = witness.context("the tier differential has no binary")?;
    let before = cpu::of_children()?;
    let chosen = Mutex::new(cases(selection));
    let results = Mutex::default();
    // The compiler keeps one core busy, and so does the tier that judges.
    let worker = |number: usize| -> Result<()> {
        let build = MutantBuild::new(&project::target_dir().join(format!("mutants/{number}")))?;
        loop {
            let next = chosen.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((name, mutant)) = next else { return Ok(()) };
            let caught = build.compile(mutant).and_then(|object| is_caught(witness, privilege, &object));
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            judge(name, mutant.is_some(), caught, &mut results);
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|number| scope.spawn(move || worker(number))).collect();
        let ended =
            running.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.collect::<Result<()>>()
    })?;
    let results: Results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Results { cpu: cpu::of_children()?.saturating_sub(before), ..results })
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
struct MutantBuild {
    source: PathBuf,
    /// Cargo's target folder.
    target: PathBuf,
    object: PathBuf,
}

impl MutantBuild {
    fn new(folder: &Path) -> Result<Self> {
        let (source, target, object) = (folder.join("source"), folder.join("bpf"), folder.join("svc-prog"));
        fs::create_dir_all(&source)?;
        fs::create_dir_all(&target)?;
        for name in ["Cargo.toml", "Cargo.lock"] {
            copy(&project::root().join(name), &source.join(name))?;
        }
        for name in ["svc-ctl", "tests", "xtask", "target"] {
            let link = source.join(name);
            if !link.exists() {
                symlink(project::root().join(name), &link).with_context(|| link.display().to_string())?;
            }
        }
        Ok(Self { source, target, object })
    }

    /// Restores the sources, makes the mistake if there is one, and compiles the object.
    fn compile(&self, mutant: Option<&Mutant>) -> Result<PathBuf> {
        let Self { source, target, object } = self;
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
        bpf::compile(source, "svc-prog", target, std::env::consts::ARCH, object)
            .map_err(anyhow::Error::msg)?;
        Ok(object.clone())
    }
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

/// Unchanged files keep their time, so that cargo compiles only the changed ones.
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
    use table::WITHOUT_MUTANT;

    #[test]
    fn every_mutant_applies_and_has_a_name_of_its_own() {
        for mutant in MUTANTS {
            let text = fs::read_to_string(project::root().join(mutant.file)).unwrap();
            assert_eq!(text.matches(mutant.from).count(), 1, "{}", mutant.name);
            assert_eq!(MUTANTS.iter().filter(|m| m.name == mutant.name).count(), 1);
        }
    }

    #[test]
    fn every_file_of_the_datapath_has_a_mutant_or_a_reason() {
        let mut files = Vec::new();
        let mut folders = ["svc-ebpf/src", "svc-common/src/datapath", "svc-common/src/wire"]
            .map(|folder| project::root().join(folder))
            .to_vec();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let mut files: Vec<_> =
            files.iter().map(|file| file.strip_prefix(project::root()).unwrap().to_str().unwrap()).collect();
        let reasons = WITHOUT_MUTANT.iter().map(|(file, _)| *file);
        let mut judged: Vec<_> = MUTANTS.iter().map(|mutant| mutant.file).chain(reasons).collect();
        judged.retain(|file| files.contains(file) || !file.contains("/abi/"));
        files.sort_unstable();
        judged.sort_unstable();
        judged.dedup();
        assert_eq!(files, judged);
    }
}
