//! Test binaries: finds those that cargo made, runs them, and reads their results.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Add;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

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
    /// The folder of Kubernetes' programs.
    pub bin: Option<PathBuf>,
    /// The folder of images for its nodes.
    pub images: Option<PathBuf>,
}

/// Exit code of a test binary that cannot run on this machine; it has printed why.
const EXIT_LEFT_OUT: i32 = 77;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
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
    pub fn count_cases(&self, filter: Option<&str>) -> Result<u64> {
        let mut list = Command::new(&self.path);
        let output = list.arg("--list").args(filter).output().context(self.path.display().to_string())?;
        let listed = String::from_utf8_lossy(&output.stdout);
        Ok(listed.lines().filter(|line| line.ends_with(": test")).count() as u64)
    }

    /// Runs it with its output shown, and reads the counts from the result line. `None` if it left itself out.
    pub fn run(
        &self,
        privilege: Privilege,
        programs: &Programs<'_>,
        filter: Option<&str>,
    ) -> Result<Option<Count>> {
        let places = [
            ("SVC_CTL", programs.svc_ctl),
            ("SVC_CLUSTER_BIN", programs.bin.as_deref()),
            ("SVC_CLUSTER_IMAGES", programs.images.as_deref()),
        ];
        let mut variables: Vec<(&str, OsString)> =
            places.into_iter().filter_map(|(name, place)| Some((name, place?.into()))).collect();
        let ours =
            ["UPDATE_EXPECT", "RUST_BACKTRACE", "SVC_DIFF_SEED", "SVC_DIFF_PACKETS", "SVC_WITNESS_SEED"];
        variables.extend(ours.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        variables.push(("CARGO_TARGET_DIR", project::target_dir().into()));
        let mut command = privilege.command(&self.path, &variables);
        command.args(filter);
        let (status, results) = stream(&mut command)?;
        if status.code() == Some(EXIT_LEFT_OUT) && results.is_empty() {
            return Ok(None);
        }
        let mut count = results.into_iter().fold(Count::default(), Count::add);
        if !status.success() && count.failed == 0 {
            println!("{} ended without a result: {status}", self.path.display());
            count.failed = 1;
        }
        Ok(Some(count))
    }
}

/// Runs a command with its output shown, and collects the results in it.
pub fn stream(command: &mut Command) -> Result<(ExitStatus, Vec<Count>)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {program}"))?;
    let stdout = child.stdout.take().context("no pipe from the program")?;
    let mut results = Vec::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        results.extend(result_line(&line));
        writeln!(std::io::stdout(), "{}", line.trim_end())?;
    }
    Ok((child.wait()?, results))
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
    fn the_result_line_gives_the_counts() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(result_line(line), Some(Count { passed: 12, failed: 2, skipped: 1 }));
        assert_eq!(result_line("test a ... ok"), None);
    }
}
