//! Tests of the texts that belong to a release: its part of CHANGELOG, and the commands of the workflow file.

use std::fs;

use super::*;

fn text(path: &str) -> String {
    fs::read_to_string(project::root().join(path)).unwrap()
}

/// The version and the commit of a section: `## 0.1.0`, an empty line, "Commit `1f...`".
fn releases(changelog: &str) -> Vec<(&str, &str)> {
    let mut lines = changelog.lines().filter(|line| !line.is_empty());
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let version = line.strip_prefix("## ").filter(|title| *title != "Unreleased");
        if let Some(version) = version {
            let commit = lines.next().and_then(|line| line.strip_prefix("Commit `")?.split('`').next());
            found.push((version, commit.unwrap_or_default()));
        }
    }
    found
}

#[test]
fn the_changelog_names_every_release_with_a_commit_that_has_its_version() {
    let changelog = text("CHANGELOG.md");
    let releases = releases(&changelog);
    assert!(releases.iter().any(|(version, _)| *version == VERSION), "{VERSION} of {releases:?}");
    for (version, commit) in releases {
        assert!(commit.len() == 40, "{version}: {commit:?} is no commit");
        // A clone may be shallow, and an archive has no history.
        if let Ok(manifest) = git(&["show", &format!("{commit}:Cargo.toml")]) {
            assert!(manifest.contains(&format!("\nversion = \"{version}\"\n")), "{version}: {manifest}");
        }
    }
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
