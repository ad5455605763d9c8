//! The pipeline with one mistake, compiled like the real one and given to the tier `differential`, which must notice. If
//! it does not, the model does not cover that code.

mod table;

use std::ffi::OsString;
use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::{chosen, is_chosen, judge, links, replace_once, write};
use crate::privilege::Privilege;
use crate::test::harness::{Count, Results, Selection, TestBinary, stream};
use crate::{bpf, project};
use table::{MUTANTS, Mutant};

/// The tier that must notice a mutant.
const WITNESS: &str = "differential";

/// Name of the case without a mistake.
const CONTROL: &str = "unchanged pipeline";

/// The control and the chosen mutants, with their names.
pub fn cases(selection: &Selection) -> impl Iterator<Item = (&'static str, Option<&'static Mutant>)> + Send {
    let control = is_chosen(CONTROL, selection).then_some((CONTROL, None));
    let mutants = chosen(MUTANTS, |mutant| mutant.name, selection);
    control.into_iter().chain(mutants.map(|mutant| (mutant.name, Some(mutant))))
}

pub fn run(binaries: &[TestBinary], privilege: Privilege, selection: &Selection) -> Result<Results> {
    let witness = binaries.iter().find(|binary| binary.tier == WITNESS);
    let witness = witness.context("the tier differential has no binary")?;
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
    Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
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
        fs::create_dir_all(&target)?;
        links(&source, &["Cargo.toml", "Cargo.lock", "svc-ctl", "tests", "xtask", "target"])?;
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
            write(&path, replace_once(&text, mutant.from, mutant.to).context(mutant.file)?.as_bytes())?;
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

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            write(&to, &fs::read(entry.path()).with_context(|| entry.path().display().to_string())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::mutants::tests::{assert_each_applies, assert_files_are_judged};
    use table::WITHOUT_MUTANT;

    #[test]
    fn every_mutant_applies_and_has_a_name_of_its_own() {
        let mutants: Vec<_> = MUTANTS.iter().map(|mutant| (mutant.name, mutant.file, mutant.from)).collect();
        assert_each_applies(&mutants);
    }

    #[test]
    fn every_file_of_the_datapath_has_a_mutant_or_a_reason() {
        let folders = ["svc-ebpf/src", "svc-common/src/datapath", "svc-common/src/wire"];
        // A table's layout can be mistaken too, but is no file of the datapath.
        let mutants = MUTANTS.iter().map(|mutant| mutant.file).filter(|file| !file.contains("/abi/"));
        assert_files_are_judged(&folders, mutants, WITHOUT_MUTANT);
    }
}
