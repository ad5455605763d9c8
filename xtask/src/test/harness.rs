//! Test binaries: finds those that cargo made, runs them, and reads their results.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Add;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::cpu;
use super::tier::{self, Tier};
use crate::executable;
use crate::privilege::Privilege;
use crate::project;

/// One test binary.
#[derive(Debug)]
pub struct TestBinary {
    pub tier: &'static str,
    pub path: PathBuf,
}

/// Programs that the tests of a tier start.
#[derive(Debug, Default)]
pub struct Programs<'a> {
    pub svc_ctl: Option<&'a Path>,
    /// svc-ctl with tables of the next ABI number.
    pub svc_ctl_next: Option<&'a Path>,
    /// The folder of Kubernetes' programs.
    pub bin: Option<PathBuf>,
    /// The folder of images for its nodes.
    pub images: Option<PathBuf>,
}

/// Cases to run.
#[derive(Debug, Default)]
pub struct Selection {
    /// Also cases that add no pair of values.
    pub all: bool,
    /// Only cases with this in their name.
    pub filter: Option<String>,
    /// How long the tier chaos takes.
    pub minutes: Option<u32>,
}

/// Exit code of a test binary that cannot run on this machine; it has printed why.
const EXIT_LEFT_OUT: i32 = 77;

/// Exit code of coreutils' `timeout` if it had to end the program.
const EXIT_TIMED_OUT: i32 = 124;

/// A test binary that runs longer waits for what never comes: twice what the longest one (net --all) takes.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// Cases of a test binary, by their outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

/// Results of test binaries, as they printed them.
#[derive(Debug, Default)]
pub struct Results {
    /// One for each result line.
    pub counts: Vec<Count>,
    /// Lines about the cases that failed: names and messages.
    pub failures: Vec<String>,
    /// Names of the cases that have ended.
    pub ended: HashSet<String>,
    /// CPU time of the programs that ran.
    pub cpu: Duration,
}

/// Compiles the tests of these tiers, unprivileged; returns their binaries, and the sources without a tier.
pub fn build(tiers: &[&Tier]) -> Result<(Vec<TestBinary>, Vec<String>)> {
    let mut packages: Vec<_> = tiers.iter().flat_map(|tier| tier.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    let mut arguments = vec!["test", "--lib", "--bins", "--tests"];
    arguments.extend(packages.into_iter().flat_map(|package| ["--package", package]));
    let (mut binaries, mut orphans) = (Vec::new(), Vec::new());
    for found in executable::build(&arguments)? {
        match tier::of_source(&found.source) {
            Some(tier) => binaries.push(TestBinary { tier, path: found.path }),
            None => orphans.push(found.source),
        }
    }
    Ok((binaries, orphans))
}

impl TestBinary {
    pub fn count_cases(&self, selection: &Selection) -> Result<u64> {
        Ok(self.cases(selection)?.len() as u64)
    }

    /// The names of its cases.
    fn cases(&self, selection: &Selection) -> Result<Vec<String>> {
        let mut list = Command::new(&self.path);
        list.envs(selection.variables()).arg("--list").args(&selection.filter);
        let output = list.output().context(self.path.display().to_string())?;
        let listed = String::from_utf8_lossy(&output.stdout);
        Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// Runs it with its output shown, each line after the label, and reads its results. `None` if it left itself out.
    pub fn run(
        &self,
        privilege: Privilege,
        programs: &Programs<'_>,
        selection: &Selection,
        label: &str,
    ) -> Result<Option<Results>> {
        let places = [
            ("SVC_CTL", programs.svc_ctl),
            ("SVC_CTL_NEXT", programs.svc_ctl_next),
            ("SVC_CLUSTER_BIN", programs.bin.as_deref()),
            ("SVC_CLUSTER_IMAGES", programs.images.as_deref()),
        ];
        let mut variables: Vec<(&str, OsString)> =
            places.into_iter().filter_map(|(name, place)| Some((name, place?.into()))).collect();
        let ours =
            ["UPDATE_EXPECT", "RUST_BACKTRACE", "SVC_DIFF_SEED", "SVC_DIFF_PACKETS", "SVC_WITNESS_SEED"];
        variables.extend(ours.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        variables.push(("CARGO_TARGET_DIR", project::target_dir().into()));
        variables.extend(selection.variables());
        let mut command = privilege.command(Path::new("timeout"), &variables);
        let limit = LIMIT
            + selection
                .minutes
                .map_or(Duration::ZERO, |minutes| Duration::from_secs(60 * u64::from(minutes)));
        // In the foreground, so that Ctrl-C reaches the tests.
        command.args(["--foreground", &limit.as_secs().to_string()]).arg(&self.path).args(&selection.filter);
        let (status, mut results) = stream(&mut command, label)?;
        if status.code() == Some(EXIT_LEFT_OUT) && results.counts.is_empty() {
            return Ok(None);
        }
        if status.code() == Some(EXIT_TIMED_OUT) {
            let mut open = self.cases(selection)?;
            open.retain(|case| !results.ended.contains(case));
            results.fail(format!(
                "it was stopped after {limit:?}; these cases had not ended: {}",
                open.join("; ")
            ));
        } else if !status.success() && results.total().failed == 0 {
            results.fail(format!("{} ended without a result: {status}", self.path.display()));
        }
        Ok(Some(results))
    }
}

impl Selection {
    /// Why a tier without a case has failed.
    pub fn nothing_ran(&self, count: Count) -> Option<String> {
        let why = match &self.filter {
            _ if count != Count::default() => return None,
            None => "none of its cases ran".to_owned(),
            Some(filter) => format!(
                "no case of this tier has {filter:?} in its name; `cargo xtask test --list` counts the cases of each tier"
            ),
        };
        Some(why)
    }

    fn variables(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let all = self.all.then(|| ("SVC_TESTS_ALL", "1".into()));
        let minutes = self.minutes.map(|minutes| ("SVC_CHAOS_MINUTES", minutes.to_string().into()));
        all.into_iter().chain(minutes)
    }
}

impl Results {
    /// A tier that was left out.
    pub fn of_skipped(skipped: u64) -> Self {
        Self { counts: vec![Count { skipped, ..Count::default() }], ..Self::default() }
    }

    /// A tier that did not come to its cases.
    pub fn of_failure(failure: String) -> Self {
        let mut results = Self::default();
        results.fail(failure);
        results
    }

    pub fn total(&self) -> Count {
        self.counts.iter().copied().fold(Count::default(), Count::add)
    }

    /// Counts a failure beside the cases' own, and prints it.
    pub fn fail(&mut self, failure: String) {
        println!("{failure}");
        self.counts.push(Count { failed: 1, ..Count::default() });
        self.failures.push(failure);
    }

    pub fn append(&mut self, mut other: Self) {
        self.counts.append(&mut other.counts);
        self.failures.append(&mut other.failures);
        self.ended.extend(other.ended);
        self.cpu += other.cpu;
    }
}

/// Runs a command with its output shown, each line after the label, and collects the results in it.
pub fn stream(command: &mut Command, label: &str) -> Result<(ExitStatus, Results)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {program}"))?;
    let stdout = child.stdout.take().context("no pipe from the program")?;
    let mut reading = Reading::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        reading.line(line.trim_end());
        writeln!(std::io::stdout(), "{label}{}", line.trim_end())?;
    }
    let (status, cpu) = cpu::wait(&mut child)?;
    Ok((status, Results { cpu, ..reading.results }))
}

/// The results in the lines so far.
#[derive(Debug, Default)]
struct Reading {
    results: Results,
    is_in_failures: bool,
}

impl Reading {
    /// The messages stand between two lines "failures:"; the names alone follow the second one.
    fn line(&mut self, line: &str) {
        let count = result_line(line);
        if line == "failures:" {
            self.is_in_failures = !self.is_in_failures;
        } else if count.is_some() {
            self.is_in_failures = false;
        } else if self.is_in_failures {
            self.results.failures.push(line.to_owned());
        }
        self.results.counts.extend(count);
        self.results.ended.extend(ended_case(line));
    }
}

/// `test a connection goes on        ... ok`
fn ended_case(line: &str) -> Option<String> {
    let (case, _) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    Some(case.trim_end().to_owned())
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn result_line(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(name))?;
        part.trim().parse::<u64>().ok()
    };
    Some(Count { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_failed_cases_are_collected() {
        let output = "test a ... FAILED\n\nfailures:\n\n---- a ----\n1 is not 2\n\n\nfailures:\n    a\n\n\
                      test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        let mut reading = Reading::default();
        output.lines().for_each(|line| reading.line(line));
        let results = reading.results;
        assert_eq!(results.counts, [Count { passed: 0, failed: 1, skipped: 0 }]);
        let failures: Vec<_> = results.failures.iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(failures, ["---- a ----", "1 is not 2"]);
    }

    #[test]
    fn a_tier_without_a_case_has_failed() {
        let filtered = Selection { filter: Some("hairpin".to_owned()), ..Selection::default() };
        let none = Count::default();
        assert!(Selection::default().nothing_ran(none).is_some());
        assert!(filtered.nothing_ran(none).is_some_and(|why| why.contains("\"hairpin\"")));
        assert_eq!(filtered.nothing_ran(Count { passed: 1, ..none }), None);
        assert_eq!(filtered.nothing_ran(Count { skipped: 1, ..none }), None);
    }

    #[test]
    fn the_result_line_gives_the_counts() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(result_line(line), Some(Count { passed: 12, failed: 2, skipped: 1 }));
        assert_eq!(result_line("test a ... ok"), None);
    }

    #[test]
    fn a_binary_that_does_not_end_names_the_cases_that_have_not() {
        let mut reading = Reading::default();
        reading.line("test a connection ... goes on    ... ok");
        reading.line("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(reading.results.ended, HashSet::from(["a connection ... goes on".to_owned()]));
    }
}
