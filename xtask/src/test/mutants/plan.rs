//! The plan with one mistake, given to the test that the mutant names. All mutants are compiled at once, into tests that
//! ask the environment which mistake to make: each one then costs the time of its test alone.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::{chosen, is_chosen, judge, links, replace_once, write};
use crate::test::harness::{Count, Results, Selection, stream};
use crate::{executable, project};
use table::{Judge, MUTANTS, Mutant};

/// Name of the case without a mistake.
const CONTROL: &str = "unchanged plan";

/// Environment variable with the number of the chosen mutant.
const CHOSEN: &str = "SVC_PLAN_MUTANT";

/// Seconds that a test may take. A mistake can make a loop endless.
const LIMIT: &str = "120";

/// The control and the chosen mutants, with their names.
pub fn cases(selection: &Selection) -> impl Iterator<Item = (&'static str, Option<&'static Mutant>)> {
    let control = is_chosen(CONTROL, selection).then_some((CONTROL, None));
    let mutants = chosen(MUTANTS, |mutant| mutant.name, selection);
    control.into_iter().chain(mutants.map(|mutant| (mutant.name, Some(mutant))))
}

pub fn run(selection: &Selection) -> Result<Results> {
    let mut results = Results::default();
    let mut cases = cases(selection).peekable();
    if cases.peek().is_none() {
        return Ok(results);
    }
    let tests = PlanTests::build(&project::target_dir().join("mutants/plan"))?;
    for (name, mutant) in cases {
        let caught = match mutant {
            Some(mutant) => tests.fails(mutant.judge, mutant.test, Some(mutant.name)),
            None => tests
                .fails(Judge::Unit, "plan::", None)
                .and_then(|is_unit_failed| Ok(is_unit_failed || tests.fails(Judge::Golden, "", None)?)),
        };
        judge(name, mutant.is_some(), caught, &mut results);
    }
    Ok(results)
}

/// Files and folders of the workspace that have no mistake.
const LINKED: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "deploy",
    "docs",
    "svc-common",
    "svc-ctl/Cargo.toml",
    "svc-ctl/benches",
    "svc-ctl/build",
    "svc-ctl/build.rs",
    "svc-ctl/tests",
    "svc-ebpf",
    "tests",
    "xtask",
];

/// The tests of svc-ctl over a plan with all mutants.
struct PlanTests {
    unit: PathBuf,
    golden: PathBuf,
}

impl PlanTests {
    fn build(folder: &Path) -> Result<Self> {
        let source = folder.join("source");
        fs::create_dir_all(source.join("svc-ctl"))?;
        links(&source, LINKED)?;
        copy_mutated(&project::root().join("svc-ctl/src"), &source.join("svc-ctl/src"))?;
        // No test of the plan loads a program.
        let object = folder.join("svc-prog");
        write(&object, &[])?;
        let built = executable::build_by(
            || {
                let mut cargo = project::cargo();
                cargo.current_dir(&source).env("SVC_BPF_OBJ", &object);
                // Dependencies are compiled once for this build and the project's own. Its other results are apart: a
                // wrapper gives them other names.
                cargo.env("CARGO_BUILD_BUILD_DIR", project::target_dir());
                cargo.env("CARGO_TARGET_DIR", folder.join("target"));
                cargo.env("RUSTC_WORKSPACE_WRAPPER", "env");
                cargo
            },
            &["test", "--package", "svc-ctl", "--lib", "--test", "golden"],
        )?;
        let find = |source: &str| {
            let found = built.iter().find(|binary| binary.source == source);
            found.map(|binary| binary.path.clone()).with_context(|| format!("cargo made no test of {source}"))
        };
        Ok(Self { unit: find("src/lib.rs")?, golden: find("tests/golden.rs")? })
    }

    /// Runs the tests with this text in their name; at least one must be there.
    fn fails(&self, judge: Judge, test: &str, mutant: Option<&str>) -> Result<bool> {
        let program = match judge {
            Judge::Unit => &self.unit,
            Judge::Golden => &self.golden,
        };
        let mut command = Command::new("timeout");
        command.args(["--foreground", LIMIT]).arg(program).arg(test);
        command.env(CHOSEN, mutant.unwrap_or_default());
        // The law that a mistake breaks is not broken by the next one with the same numbers.
        command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
        let (status, results) = stream(&mut command, "")?;
        let [Count { passed, failed, .. }] = results.counts[..] else {
            bail!("{} ended without a result: {status}", program.display());
        };
        ensure!(passed + failed > 0, "no test has {test:?} in its name");
        Ok(!status.success())
    }
}

/// Copies the sources. In a file of the plan each mutant's expression becomes a choice between the two.
fn copy_mutated(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_mutated(&path, &to)?;
            continue;
        }
        let mut text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let file = path.strip_prefix(project::root())?;
        for Mutant { name, from, to, .. } in MUTANTS.iter().filter(|mutant| Path::new(mutant.file) == file) {
            let choice = format!("(if crate::is_mutant({name:?}) {{ {to} }} else {{ {from} }})");
            text = replace_once(&text, from, &choice).context(*name)?;
        }
        if file == Path::new("svc-ctl/src/lib.rs") {
            text = format!("#![allow(unused_parens)]\n{text}\n{}", is_mutant());
        }
        write(&to, text.as_bytes())?;
    }
    Ok(())
}

/// Source of the function that tells which mutant is chosen.
fn is_mutant() -> String {
    format!(
        "fn is_mutant(name: &str) -> bool {{
            static CHOSEN: std::sync::LazyLock<Option<String>> =
                std::sync::LazyLock::new(|| std::env::var({CHOSEN:?}).ok());
            CHOSEN.as_deref() == Some(name)
        }}"
    )
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
    fn every_file_of_the_plan_has_a_mutant_or_a_reason() {
        let mutants = MUTANTS.iter().map(|mutant| mutant.file);
        assert_files_are_judged(&["svc-ctl/src/plan"], mutants, WITHOUT_MUTANT);
    }
}
