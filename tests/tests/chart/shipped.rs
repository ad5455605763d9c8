//! Files of the repository that Helm writes. `UPDATE_EXPECT=1` rewrites them.

use std::fs;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::run_name::workspace_dir;

use crate::helm;

/// The templates that render something by default; each equals the file of that name in `deploy`.
const SHIPPED: [&str; 2] = ["daemonset.yaml", "rbac.yaml"];
const HEADER: &str =
    "# Rendered from deploy/chart with its defaults: `UPDATE_EXPECT=1 cargo xtask test chart shipped`.\n";

pub fn trials() -> Vec<Trial> {
    let trial = |file| {
        Trial::test(format!("shipped: deploy/{file} is the chart with its defaults"), move || {
            Ok(is_rendered(file)?)
        })
    };
    let mut trials: Vec<_> = SHIPPED.into_iter().map(trial).collect();
    trials.push(Trial::test("shipped: every file that the chart renders by default is there", || {
        Ok(complete()?)
    }));
    trials
}

fn is_rendered(file: &str) -> Result<()> {
    let rendered = helm::template("{}", &["--show-only", &format!("templates/{file}")])?;
    // Helm writes the template's name before each object, and an empty line after it.
    let lines = rendered.lines().filter(|line| !line.is_empty() && !line.starts_with("# Source: "));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let wanted = format!("{HEADER}{}", text.trim_start_matches("---\n"));
    let path = workspace_dir().join("deploy").join(file);
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        fs::write(&path, &wanted).with_context(|| path.display().to_string())?;
    }
    let there = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(
        there == wanted,
        "{} is out of date; with UPDATE_EXPECT=1 it is rewritten:\n{wanted}",
        path.display()
    );
    Ok(())
}

fn complete() -> Result<()> {
    let rendered = helm::template("{}", &[])?;
    let sources = rendered.lines().filter_map(|line| line.strip_prefix("# Source: svc/templates/"));
    let missing: Vec<_> = sources.filter(|source| !SHIPPED.contains(source)).collect();
    ensure!(missing.is_empty(), "not in deploy: {missing:?}");
    Ok(())
}
