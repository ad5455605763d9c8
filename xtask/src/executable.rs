//! Compiles with cargo, unprivileged, and returns the binaries, so that they can be run with privileges.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::project;

/// A test or bench binary, and the source file that cargo names for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Executable {
    pub source: String,
    pub path: PathBuf,
}

/// Runs `cargo test` or `cargo bench` with these arguments and `--no-run`.
pub fn build(arguments: &[&str]) -> Result<Vec<Executable>> {
    build_by(project::cargo, arguments)
}

/// As [`build`], by this cargo.
pub fn build_by(cargo: impl Fn() -> Command, arguments: &[&str]) -> Result<Vec<Executable>> {
    let cargo = || {
        let mut cargo = cargo();
        cargo.args(arguments).args(["--no-run", "--locked"]);
        cargo
    };
    // The first run shows progress, the second one lists the names and has nothing left to compile.
    project::run(&mut cargo())?;
    let output = cargo().args(["--color", "never"]).output()?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stderr).lines().filter_map(parse_line).collect())
}

/// `Executable unittests src/lib.rs (target/debug/deps/x-1f)` or `Executable tests/net.rs (...)`.
fn parse_line(line: &str) -> Option<Executable> {
    let (source, path) = line.trim().strip_prefix("Executable ")?.split_once(" (")?;
    let source = source.strip_prefix("unittests ").unwrap_or(source).to_owned();
    Some(Executable { source, path: project::root().join(path.strip_suffix(')')?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_names_source_and_path_of_each_binary() {
        let found = |line| parse_line(line).map(|found| (found.source, found.path.display().to_string()));
        let unit = "  Executable unittests src/lib.rs (/tmp/t/debug/deps/svc_common-1f)";
        assert_eq!(found(unit), Some(("src/lib.rs".into(), "/tmp/t/debug/deps/svc_common-1f".into())));
        let net = "  Executable tests/net/main.rs (/tmp/t/debug/deps/net-2e)";
        assert_eq!(found(net), Some(("tests/net/main.rs".into(), "/tmp/t/debug/deps/net-2e".into())));
        assert_eq!(found("    Finished `test` profile"), None);
    }
}
