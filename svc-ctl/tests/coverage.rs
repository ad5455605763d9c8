//! Lists the tests that name each rule of Service semantics. `tests/COVERAGE.md` is written from the rules of
//! `docs/semantics.md`, the names of all tests, and the rules without a test in `docs/deviations.md`.
//! `tests/coverage/rules.txt` is the list of the rules, one per line.
//!
//! `UPDATE_EXPECT=1 cargo test -p svc-ctl --test coverage` rewrites both.

#[path = "coverage/citations.rs"]
mod citations;
#[path = "coverage/names.rs"]
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use names::Names;

/// Number of test names shown for a rule, to keep the page readable.
const SHOWN: usize = 4;

struct Rule {
    id: String,
    title: String,
    source: String,
}

/// The headings of `docs/semantics.md` with their rules: rows of a rule, what it is about, what holds, and its source.
fn rules() -> Vec<(String, Vec<Rule>)> {
    let mut groups: Vec<(String, Vec<Rule>)> = Vec::new();
    for line in read("docs/semantics.md").lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            groups.push((heading.to_owned(), Vec::new()));
        } else if line.starts_with("| SEM-") || line.starts_with("| PAR-") {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "not four cells: {line}");
            let (_, rules) = groups.last_mut().expect("a heading before the first rule");
            rules.push(Rule {
                id: cells[0].to_owned(),
                title: cells[1].to_owned(),
                source: cells[3].to_owned(),
            });
        }
    }
    groups.retain(|(_, rules)| !rules.is_empty());
    groups
}

fn known_rules() -> BTreeSet<String> {
    rules().into_iter().flat_map(|(_, rules)| rules).map(|rule| rule.id).collect()
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

/// The rules in the first column of a table in `docs/deviations.md`: `| SEM-123 |`, or `| SEM-300 to SEM-314 |`.
fn listed(heading: &str) -> BTreeSet<String> {
    let page = read("docs/deviations.md");
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect("the table's heading");
    let table = rest.split("\n## ").next().unwrap_or(rest);
    let known = known_rules();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells
        .flat_map(|cell| match (cell.split_once(" to "), ids(cell)) {
            (Some((first, last)), _) => {
                known.range(first.to_owned()..=last.to_owned()).cloned().collect::<BTreeSet<_>>()
            }
            (None, ids) => ids,
        })
        .collect()
}

/// The page, and the rules that neither a test nor `docs/deviations.md` names.
fn page(names: &Names) -> (String, Vec<String>) {
    let (groups, tests) = (rules(), by_rule(names));
    let (exempt, open) = (listed("Without a test"), listed("Open"));
    let (mut tables, mut unnamed) = (String::new(), Vec::new());
    let (mut tested_count, mut exempt_count, mut open_count) = (0, 0, 0);
    for (heading, rules) in &groups {
        // Writing to a String cannot fail.
        let _ = write!(tables, "\n## {heading}\n\n| rule | | tests |\n|---|---|---|\n");
        for Rule { id, title, .. } in rules {
            let cell = match tests.get(id) {
                Some(all) => {
                    tested_count += 1;
                    let more = all.len().saturating_sub(SHOWN);
                    let more = if more == 0 { String::new() } else { format!("<br>and {more} more") };
                    all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("<br>") + &more
                }
                None if exempt.contains(id) => {
                    exempt_count += 1;
                    "none: see [deviations](../docs/deviations.md#without-a-test)".to_owned()
                }
                None => {
                    open_count += 1;
                    if !open.contains(id) {
                        unnamed.push(id.clone());
                    }
                    "**open**: see [deviations](../docs/deviations.md#open)".to_owned()
                }
            };
            let _ = writeln!(tables, "| {id} | {title} | {cell} |");
        }
    }
    let head = format!(
        "# Which test names which rule\n\nWritten by `UPDATE_EXPECT=1 cargo test -p svc-ctl --test coverage` from \
         [docs/semantics.md](../docs/semantics.md) and the\nnames of all tests; not by hand. A rule's number in a \
         test's name is the claim of its author; the tiers\n`differential` (rules broken in the model) and `mutants` check \
         a part of these claims.\n\n{} rules: {tested_count} named by a test, {exempt_count} exempt, \
         {open_count} open.\n",
        tested_count + exempt_count + open_count,
    );
    (head + &tables, unnamed)
}

/// `tests/coverage/rules.txt`.
fn list() -> String {
    let mut text = "# The rules of docs/semantics.md; written by UPDATE_EXPECT=1 cargo test -p svc-ctl --test coverage, not by \
                    hand.\n"
        .to_owned();
    for (heading, rules) in rules() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n[{heading}]\n");
        for Rule { id, title, .. } in rules {
            let _ = writeln!(text, "{id} {title}");
        }
    }
    text
}

/// Compares a file that is written by this test, or rewrites it.
fn is_up_to_date(file: &str, expected: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        fs::write(project().join(file), expected).expect("the file can be written");
    }
    let old = read(file);
    let changed: Vec<&str> =
        expected.lines().filter(|line| !old.lines().any(|other| other == *line)).collect();
    assert!(
        old == expected,
        "{file} is out of date; with UPDATE_EXPECT=1 it is rewritten:\n{}",
        changed.join("\n")
    );
}

fn read(file: &str) -> String {
    fs::read_to_string(project().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in its workspace")
}

#[test]
fn the_page_lists_the_current_tests() {
    is_up_to_date("tests/COVERAGE.md", &page(&names::collect(project())).0);
}

#[test]
fn the_list_of_rules_equals_that_of_the_semantics() {
    is_up_to_date("tests/coverage/rules.txt", &list());
}

#[test]
fn no_rule_has_two_rows() {
    let rows: usize = rules().iter().map(|(_, rules)| rules.len()).sum();
    assert_eq!(rows, known_rules().len());
}

#[test]
fn every_source_has_an_address() {
    let page = read("docs/semantics.md");
    for Rule { id, source, .. } in rules().into_iter().flat_map(|(_, rules)| rules) {
        let names: Vec<_> = source.split('[').skip(1).filter_map(|rest| rest.split(']').next()).collect();
        assert!(!names.is_empty() || source == "svc", "{id}: no source: {source}");
        for name in names {
            assert!(page.contains(&format!("\n[{name}]: https://")), "{id}: no address of [{name}]");
        }
    }
}

#[test]
fn every_rule_is_named_by_a_test_or_exempt_or_open() {
    let (_, unnamed) = page(&names::collect(project()));
    assert_eq!(unnamed, [""; 0], "not in docs/deviations.md either");
}

#[test]
fn a_rule_that_is_open_has_no_test() {
    let tests = by_rule(&names::collect(project()));
    let closed: Vec<_> = listed("Open").into_iter().filter(|id| tests.contains_key(id)).collect();
    assert!(closed.is_empty(), "tested, and still open in docs/deviations.md: {closed:?}");
}

#[test]
fn every_citation_has_a_target() {
    let foreign = citations::foreign(project(), &known_rules());
    assert!(foreign.is_empty(), "explain it on the spot, or bring the text in:\n{}", foreign.join("\n"));
}

#[test]
fn every_deviation_names_an_existing_test() {
    let names = names::collect(project());
    let page = read("docs/deviations.md");
    let (table, _) = page.split_once("\n## Without a test\n").expect("the exemptions' heading");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    for row in rows {
        let shown_by = row.trim_end_matches(" |").rsplit(" | ").next().expect("a last column");
        // Every second part is between backticks.
        for name in shown_by.split('`').skip(1).step_by(2) {
            assert!(
                names.values().flatten().any(|test| test.contains(name)),
                "no test has the name {name:?}"
            );
        }
    }
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
