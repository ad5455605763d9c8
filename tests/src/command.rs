//! Runs other programs; their stderr becomes part of the error.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Number of log lines in the report of an ended program.
const LAST_LINES: usize = 30;

/// Runs to the end and returns stdout; a non-zero exit is an error with stderr in it.
pub fn run(command: &mut Command) -> Result<String> {
    feed(command, "")
}

/// [`run`] with `input` on stdin.
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that has failed already does not read its input; its exit status is reported.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}: {}\n{input}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The end of a log, so that an error can be understood without opening the file; empty if there is no log.
pub fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
}
