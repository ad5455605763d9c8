//! Tests of the texts that belong to a release: what CHANGELOG says of it, and what the workflow file runs.

use std::fs;

use super::*;

fn text(path: &str) -> String {
    fs::read_to_string(project::root().join(path)).unwrap()
}

#[test]
fn chart_and_program_have_one_version() {
    let chart = text("deploy/chart/Chart.yaml");
    for field in ["version", "appVersion"] {
        assert!(chart.contains(&format!("\n{field}: {VERSION}\n")), "{field}: {chart}");
    }
}

#[test]
fn the_workflow_runs_what_ci_runs_and_makes_a_release_twice() {
    let workflow = text(".github/workflows/ci.yml");
    let steps: Vec<_> = workflow.lines().filter_map(|line| line.trim().strip_prefix("- run: ")).collect();
    assert!(project::root().join(".ci/run").exists());
    for command in [".ci/run", "cargo xtask dist --twice"] {
        assert!(steps.contains(&command), "{command} of {steps:?}");
    }
}

#[test]
fn every_text_of_the_archive_is_in_the_repository() {
    for name in TEXTS {
        assert!(project::root().join(name).exists(), "{name}");
    }
}
