//! Runs other programs; their stderr becomes part of the error.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use process_control::{ChildExt as _, Control as _};

/// Number of log lines in the report of an ended program.
const LAST_LINES: usize = 30;

/// A program that runs longer waits for what never comes. No program that tests run to its end takes half as long.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Runs to the end and returns stdout; a non-zero exit is an error with stderr in it, and so is no end within five
/// minutes.
pub fn run(command: &mut Command) -> Result<String> {
    feed(command, "")
}

/// [`run`] with `input` on stdin.
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    feed_within(LIMIT, command, input)
}

fn feed_within(limit: Duration, command: &mut Command, input: &str) -> Result<String> {
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
    let ended = child.controlled_with_output().time_limit(limit).terminate_for_timeout().wait();
    let ended = ended.with_context(|| format!("wait for {shown}"))?;
    let output = ended.with_context(|| format!("{shown} did not end within {limit:?}"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_an_error() {
        let limit = Duration::from_millis(20);
        let error = feed_within(limit, Command::new("sleep").arg("3600"), "").unwrap_err();
        assert_eq!(error.to_string(), r#""sleep" "3600" did not end within 20ms"#);
    }
}
