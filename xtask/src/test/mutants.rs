//! The tier mutants: the product with one mistake, which a test must notice. In the datapath the tier `differential` must
//! notice it, in the plan the test that the mutant names.
//!
//! A mutant is text that occurs once in a file, and its replacement; a mutant whose text is missing fails. The first case
//! of each kind is the control: the unchanged product, which must not be noticed.

mod datapath;
mod plan;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::cpu;
use super::harness::{Count, Results, Selection, TestBinary};
use crate::privilege::Privilege;
use crate::project;

/// Without `--all` and without a filter, one of this many mutants runs. Mutants check the tests, which change less
/// often than the product.
const ONE_OF: usize = 8;

pub fn count_cases(selection: &Selection) -> u64 {
    (datapath::cases(selection).count() + plan::cases(selection).count()) as u64
}

pub fn run(binaries: &[TestBinary], privilege: Privilege, selection: &Selection) -> Result<Results> {
    let before = cpu::of_children()?;
    let mut results = plan::run(selection)?;
    results.append(datapath::run(binaries, privilege, selection)?);
    Ok(Results { cpu: cpu::of_children()?.saturating_sub(before), ..results })
}

/// The mutants that run.
fn chosen<M: Sync>(
    mutants: &'static [M],
    name: fn(&M) -> &'static str,
    selection: &Selection,
) -> impl Iterator<Item = &'static M> + Send {
    let is_part = !selection.all && selection.filter.is_none();
    let mutants = mutants.iter().step_by(if is_part { ONE_OF } else { 1 });
    mutants.filter(move |mutant| is_chosen(name(mutant), selection))
}

fn is_chosen(name: &str, selection: &Selection) -> bool {
    selection.filter.as_deref().is_none_or(|filter| name.contains(filter))
}

/// Prints and counts whether the test noticed the mutant, or noticed something in the product without a mistake.
fn judge(name: &str, is_mutant: bool, caught: Result<bool>, results: &mut Results) {
    match caught {
        Ok(is_caught) if is_caught == is_mutant => {
            println!("mutant {name:?} ... {}", if is_mutant { "caught" } else { "accepted" });
            results.counts.push(Count { passed: 1, ..Count::default() });
        }
        Ok(_) if is_mutant => results.fail(format!("mutant {name:?} ... NOT CAUGHT")),
        Ok(_) => results.fail(format!("{name}: its tests fail")),
        Err(error) => results.fail(format!("mutant {name:?} ... {error:#}")),
    }
}

/// The text with the mistake.
fn replace_once(text: &str, from: &str, to: &str) -> Result<String> {
    let times = text.matches(from).count();
    ensure!(times == 1, "the mutant's text stands {times} times in it: {from}");
    Ok(text.replace(from, to))
}

/// Makes the folder, with links to these files and folders of the project.
fn links(folder: &Path, names: &[&str]) -> Result<()> {
    fs::create_dir_all(folder)?;
    for name in names {
        let link = folder.join(name);
        if !link.exists() {
            symlink(project::root().join(name), &link).with_context(|| link.display().to_string())?;
        }
    }
    Ok(())
}

/// An unchanged file keeps its time, so that cargo compiles only the changed ones.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, file and replaced text of each mutant.
    pub fn assert_each_applies(mutants: &[(&str, &str, &str)]) {
        for (name, file, from) in mutants {
            let text = fs::read_to_string(project::root().join(file)).unwrap();
            assert_eq!(text.matches(*from).count(), 1, "{name}");
            assert_eq!(mutants.iter().filter(|(other, ..)| other == name).count(), 1, "{name}");
        }
    }

    /// Each file in the folders has a mutant or a reason, and no other file has one.
    pub fn assert_files_are_judged(
        folders: &[&str],
        mutants: impl Iterator<Item = &'static str>,
        reasons: &[(&'static str, &str)],
    ) {
        let mut files = Vec::new();
        let mut folders: Vec<_> = folders.iter().map(|folder| project::root().join(folder)).collect();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let mut files: Vec<_> =
            files.iter().map(|file| file.strip_prefix(project::root()).unwrap().to_str().unwrap()).collect();
        let mut judged: Vec<_> = mutants.chain(reasons.iter().map(|(file, _)| *file)).collect();
        files.sort_unstable();
        judged.sort_unstable();
        judged.dedup();
        assert_eq!(files, judged);
    }
}
