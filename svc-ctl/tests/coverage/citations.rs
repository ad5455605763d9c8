//! Finds citations of things that the repository does not have: rules missing in `docs/semantics.md`, missing pages,
//! sections of private notes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files that people write.
const EXTENSIONS: [&str; 7] = ["md", "rs", "sh", "svctest", "toml", "txt", "yaml"];

/// Folders of tools.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// The page that names the project's issues, and this file with its examples.
const WITH_ISSUES: &str = "docs/deviations.md";
const OWN: &str = "svc-ctl/tests/coverage/citations.rs";

/// Names of notes outside the repository.
const NOTES: [&str; 3] = ["DESIGN", "aya-notes", "../shared"];

/// Every citation without a target: file, line, and citation.
pub fn foreign(project: &Path, rules: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(project) {
        let place = path.strip_prefix(project).expect("found below the project").display().to_string();
        // All text of the repository is UTF-8; other files are not text.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if place == OWN {
            continue;
        }
        // The page is found by its path in the project or beside the file, or is an output of this file.
        let has_page = |page: &str| {
            let beside = path.parent().is_some_and(|folder| folder.join(page).exists());
            beside || project.join(page.trim_start_matches("../")).exists()
        };
        for (line, number) in text.lines().zip(1..) {
            let mut cited = in_line(line, rules, &has_page);
            cited.retain(|cited| place != WITH_ISSUES || !cited.starts_with("issue "));
            found.extend(cited.into_iter().map(|cited| format!("{place}:{number}: {cited}")));
        }
    }
    found.sort();
    found
}

fn in_line(line: &str, rules: &BTreeSet<String>, has_page: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found: Vec<String> =
        NOTES.iter().filter(|note| line.contains(**note)).map(|note| (*note).to_owned()).collect();
    let upper = line.to_uppercase().replace('_', "-");
    for kind in ["SEM-", "PAR-", "E2E-"] {
        let cited = numbers(&upper, kind).map(|number| format!("{kind}{number}"));
        found.extend(cited.filter(|id| !rules.contains(id)));
    }
    let lower = line.to_lowercase();
    for kind in ["sem ", "par ", "issue ", "section ", "sections "] {
        let is_public = kind.starts_with("section") && line.contains("RFC ");
        let cited = numbers(&lower, kind).map(|number| format!("{kind}{number}"));
        found.extend(cited.filter(|_| !is_public));
    }
    // Rows of a verdict table. Other numbers up to 6 are versions and families in code.
    let rows = ["V3", "V5", "V7", "V8", "V9", "V10", "V11", "V12", "V13"];
    let words = line.split(|c: char| !c.is_alphanumeric());
    found.extend(words.filter(|word| rows.contains(word)).map(str::to_owned));
    let names = line.split(|c: char| !(c.is_alphanumeric() || "._-/".contains(c)));
    let pages = names.filter(|name| name.ends_with(".md") && !name.starts_with("//"));
    found.extend(pages.filter(|page| *page != ".md" && !has_page(page)).map(str::to_owned));
    found
}

/// The numbers that follow a word, at the start of a word.
fn numbers<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(word).filter_map(move |(at, _)| {
        let is_inside = line[..at].ends_with(char::is_alphanumeric);
        let rest = &line[at + word.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        (!is_inside && end > 0).then_some(&rest[..end])
    })
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    paths
        .filter(|path| !path.file_name().is_some_and(|name| SKIPPED.iter().any(|skipped| name == *skipped)))
        .flat_map(|path| match path.is_dir() && !path.is_symlink() {
            true => files(&path),
            false => vec![path],
        })
        .filter(|path| {
            path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|ours| extension == *ours))
        })
        .collect()
}

#[test]
fn every_kind_of_citation_is_found() {
    let rules = BTreeSet::from(["SEM-001".to_owned()]);
    let cited = |line| in_line(line, &rules, &|page| page == "docs/counters.md");
    for line in [
        "SEM-001, sem_001, SEM-nnn",
        "family::V6, Kind::V1",
        "docs/counters.md",
        "see //host/page.md",
        "RFC 1071 section 2",
        "sections of tables",
    ] {
        assert_eq!(cited(line), [""; 0], "{line}");
    }
    for (line, expected) in [
        ("SEM-1", "SEM-1"),
        ("fn sem_999_holds", "SEM-999"),
        ("(SEM 4.3)", "sem 4"),
        ("refused (V11)", "V11"),
        ("E2E-010", "E2E-010"),
        ("(DESIGN 4.1)", "DESIGN"),
        ("Section 3.2", "section 3"),
        ("what issue 9 asks", "issue 9"),
        ("rules of semantics-elsewhere.md", "semantics-elsewhere.md"),
    ] {
        assert_eq!(cited(line), [expected], "{line}");
    }
}
