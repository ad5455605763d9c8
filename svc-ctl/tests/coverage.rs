//! Which test names which rule of Service semantics: `tests/COVERAGE.md` is written from the rules in
//! `tests/coverage/rules.txt`, the names of all tests, and the exemptions in `docs/deviations.md`.
//!
//! `UPDATE_EXPECT=1 cargo test -p svc-ctl --test coverage` rewrites the page.

#[path = "coverage/names.rs"]
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use names::Names;

/// Names shown for a rule; the page is to be read.
const SHOWN: usize = 4;

struct Rule {
    id: String,
    title: String,
}

/// Headings with their rules.
fn rules() -> Vec<(String, Vec<Rule>)> {
    let mut groups: Vec<(String, Vec<Rule>)> = Vec::new();
    let text = read("tests/coverage/rules.txt");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(heading) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            groups.push((heading.to_owned(), Vec::new()));
            continue;
        }
        let (id, title) = line.split_once(' ').expect("an id and a title");
        let (_, rules) = groups.last_mut().expect("a heading before the first rule");
        rules.push(Rule { id: id.to_owned(), title: title.to_owned() });
    }
    groups
}

/// The ids in a name: `SEM-091`, `par_044`.
fn ids(name: &str) -> BTreeSet<String> {
    let name = name.to_uppercase().replace('_', "-");
    let mut found = BTreeSet::new();
    for kind in ["SEM-", "PAR-"] {
        for (at, _) in name.match_indices(kind) {
            let number: String = name[at + kind.len()..].chars().take_while(char::is_ascii_digit).collect();
            if number.len() == 3 {
                found.insert(format!("{kind}{number}"));
            }
        }
    }
    found
}

fn by_rule(names: &Names) -> BTreeMap<String, Vec<String>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (place, names) in names {
        for name in names {
            for id in ids(name) {
                let all = tests.entry(id).or_default();
                let text = format!("`{place}`: {}", name.replace('|', "\\|"));
                if !all.contains(&text) {
                    all.push(text);
                }
            }
        }
    }
    tests
}

/// Rules that need no test: rows of the deviations' second table, `| SEM-123 | reason |`.
fn exempt() -> BTreeSet<String> {
    let page = read("docs/deviations.md");
    let (_, table) = page.split_once("## Without a test").expect("the exemptions' heading");
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .flat_map(|row| ids(row.split('|').next().unwrap_or_default()))
        .collect()
}

/// The page, and the rules that are open.
fn page(names: &Names) -> (String, Vec<String>) {
    let (groups, tests, exempt) = (rules(), by_rule(names), exempt());
    let (mut tables, mut open, mut total) = (String::new(), Vec::new(), 0);
    for (heading, rules) in &groups {
        // Writing to a String cannot fail.
        let _ = write!(tables, "\n## {heading}\n\n| rule | | tests |\n|---|---|---|\n");
        for Rule { id, title } in rules {
            total += 1;
            let cell = match tests.get(id) {
                Some(all) => {
                    let more = all.len().saturating_sub(SHOWN);
                    let more = if more == 0 { String::new() } else { format!("<br>and {more} more") };
                    all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("<br>") + &more
                }
                None if exempt.contains(id) => "none: see [deviations](../docs/deviations.md)".to_owned(),
                None => {
                    open.push(id.clone());
                    "**open**".to_owned()
                }
            };
            let _ = writeln!(tables, "| {id} | {title} | {cell} |");
        }
    }
    let known: BTreeSet<&str> =
        groups.iter().flat_map(|(_, rules)| rules).map(|rule| rule.id.as_str()).collect();
    let exempt = exempt.iter().filter(|id| known.contains(id.as_str()) && !tests.contains_key(*id)).count();
    let head = format!(
        "# Which test names which rule\n\nWritten by `UPDATE_EXPECT=1 cargo test -p svc-ctl --test coverage` from \
         `tests/coverage/rules.txt` and the names of\nall tests; not by hand. A test that names a rule fails when the \
         rule is broken.\n\n{total} rules: {} named by a test, {exempt} exempt, {} open.\n",
        total - exempt - open.len(),
        open.len(),
    );
    (head + &tables, open)
}

fn read(file: &str) -> String {
    fs::read_to_string(project().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in its workspace")
}

#[test]
fn the_page_shows_what_the_tests_are() {
    let (page, _) = page(&names::collect(project()));
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        fs::write(project().join("tests/COVERAGE.md"), &page).expect("the page can be written");
    }
    let old = read("tests/COVERAGE.md");
    let changed: Vec<&str> = page.lines().filter(|line| !old.lines().any(|other| other == *line)).collect();
    assert!(
        old == page,
        "tests/COVERAGE.md is out of date; with UPDATE_EXPECT=1 it is rewritten:\n{}",
        changed.join("\n")
    );
}

#[test]
fn every_rule_is_named_by_a_test_or_exempt() {
    let (_, open) = page(&names::collect(project()));
    assert_eq!(open, [""; 0], "open");
}

#[test]
fn what_shows_a_deviation_is_a_test() {
    let names = names::collect(project());
    let page = read("docs/deviations.md");
    let (table, _) = page.split_once("## Without a test").expect("the exemptions' heading");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    for row in rows {
        let shown_by = row.trim_end_matches(" |").rsplit(" | ").next().expect("a last column");
        // What stands between backticks is every second part.
        for name in shown_by.split('`').skip(1).step_by(2) {
            assert!(
                names.values().flatten().any(|test| test.contains(name)),
                "no test has the name {name:?}"
            );
        }
    }
}

#[test]
fn a_test_names_no_rule_that_is_not_there() {
    let known: BTreeSet<String> =
        rules().into_iter().flat_map(|(_, rules)| rules).map(|rule| rule.id).collect();
    let is_in_list = |id: &&String| {
        id.starts_with("PAR") || !("SEM-200".."SEM-230").contains(&id.as_str()) && id.as_str() < "SEM-239"
    };
    let tests = by_rule(&names::collect(project()));
    let unknown: Vec<_> = tests.iter().filter(|(id, _)| is_in_list(id) && !known.contains(*id)).collect();
    assert!(unknown.is_empty(), "not in tests/coverage/rules.txt: {unknown:?}");
}

#[test]
fn names_are_found_and_comments_are_not() {
    let code = r##"
        //! SEM-001
        fn helper() { let product = "SEM-002"; }
        #[cfg(test)]
        mod tests {
            /// SEM-003
            #[test]
            fn sem_004_holds() { row("a sentence \
                that goes on (SEM-005, PAR-006)"); } // SEM-007
            proptest! { #[test] fn a_law(x in 0..1) { assert!(true, r#"SEM-008"#) } }
        }
        fn after() { "SEM-009"; }
    "##;
    let found = |is_test| -> Vec<String> {
        names::of_rust(code, is_test).iter().flat_map(|name| ids(name)).collect()
    };
    assert_eq!(found(false), ["SEM-004", "PAR-006", "SEM-005", "SEM-008"]);
    assert_eq!(found(true), ["SEM-002", "SEM-004", "PAR-006", "SEM-005", "SEM-008", "SEM-009"]);
    assert!(names::of_rust(code, false).contains(&"a_law".to_owned()));
    assert!(names::of_rust(code, false).contains(&"a sentence that goes on (SEM-005, PAR-006)".to_owned()));
}
