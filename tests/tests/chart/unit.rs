//! `deploy/systemd/svc.service`: systemd accepts the unit, and svc-ctl accepts the command line in it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Completion, Trial};
use svc_tests::run_name::workspace_dir;

use crate::flags;

/// Upper limit of systemd's exposure score for the unit, in tenths. The unit keeps the rights that programs, maps and
/// namespaces need.
const MOST_EXPOSED: &str = "40";

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("svc-ctl accepts the command line of the systemd unit", || Ok(started()?)),
        Trial::ignorable_test("systemd takes the unit, and finds it shut in", || Ok(judged()?)),
    ]
}

fn unit() -> Result<String> {
    fs::read_to_string(workspace_dir().join("deploy/systemd/svc.service")).context("the unit")
}

fn started() -> Result<()> {
    let unit = unit()?;
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).context("no ExecStart")?;
    let words: Vec<String> = line.replace(" $OPTIONS", "").split(' ').map(str::to_owned).collect();
    ensure!(words[0].ends_with("/svc-ctl") && words[1] == "run", "it starts {words:?}");
    flags::parse(&words[2..])
}

fn judged() -> Result<Completion> {
    let dir = tempdir()?;
    let path = dir.join("svc.service");
    // The program need not be installed here.
    fs::write(&path, unit()?.replace("/usr/local/bin/svc-ctl", "/bin/true"))?;
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&path).output();
    let Ok(verified) = analyze(&["verify"]) else {
        return Ok(Completion::ignored_with("systemd-analyze is not installed"));
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    ensure!(verified.status.success() && !said.contains("svc.service:"), "{said}");
    let security = analyze(&["security", "--offline=true", "--no-pager", "--threshold", MOST_EXPOSED])?;
    fs::remove_dir_all(&dir)?;
    ensure!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
    Ok(Completion::Completed)
}

fn tempdir() -> Result<std::path::PathBuf> {
    let path = std::env::temp_dir().join(format!("svc-unit-{}", std::process::id()));
    fs::create_dir_all(&path)?;
    Ok(path)
}
