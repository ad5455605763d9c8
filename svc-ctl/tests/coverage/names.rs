//! Collects the names of all tests: functions below `#[test]`, texts in test code that name a rule (rows, scenarios,
//! cases), comments at the head of goldens, and the rows of the witness. Comments in code are not names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Folders of crates that have tests, of goldens and of the witness's rows.
const CRATES: [&str; 6] =
    ["svc-common", "svc-ctl", "tests/src", "tests/tests", "tests/echo", "tests/witness/groups"];

/// Files whose tests parse rule ids as input: a line of the witness, a note on a spec.
const READERS: [&str; 2] = ["tests/src/witness/line.rs", "tests/src/conformance/notes.rs"];

/// Tests by name, with the file (below the project) of each.
pub type Names = BTreeMap<String, Vec<String>>;

pub fn collect(project: &Path) -> Names {
    let mut names = Names::new();
    for file in CRATES.iter().flat_map(|folder| files(&project.join(folder))) {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let place = file.strip_prefix(project).expect("found below the project").display().to_string();
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") if READERS.contains(&place.as_str()) => continue,
            Some("rs") => of_rust(&text, is_test_file(&place)),
            Some("svctest" | "dnstest") => of_golden(&text),
            Some("yaml") if place.starts_with("tests/witness") => of_witness(&text),
            _ => continue,
        };
        if !found.is_empty() {
            names.insert(place, found);
        }
    }
    names
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The whole file is test code. In other files only the code below `#[cfg(test)]` is. The scanner's own rows name
/// rules, too.
fn is_test_file(place: &str) -> bool {
    let is_own = place.contains("/tests/coverage");
    (place.contains("/tests/")
        || place.starts_with("tests/src/matrix/")
        || place.ends_with("/tests.rs")
        || place.ends_with("/laws.rs"))
        && !is_own
}

fn of_golden(text: &str) -> Vec<String> {
    let head = text.lines().take_while(|line| !line.starts_with("-- "));
    let paragraphs = head.map(|line| line.strip_prefix("# ").unwrap_or("\n")).collect::<Vec<_>>().join(" ");
    // A clause begins with its rule.
    let clauses = ["SEM-", "PAR-"].iter().fold(paragraphs, |text, kind| {
        text.replace(&format!(". {kind}"), &format!(".\n{kind}"))
            .replace(&format!("; {kind}"), &format!(";\n{kind}"))
    });
    clauses.lines().map(|clause| clause.trim().to_owned()).filter(|clause| !clause.is_empty()).collect()
}

fn of_witness(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines
        .filter_map(|line| line.trim().strip_prefix("- "))
        .map(|row| row.trim_matches('"').to_owned())
        .collect()
}

pub fn of_rust(text: &str, is_test: bool) -> Vec<String> {
    let mut names = Vec::new();
    walk(text.parse().expect("Rust"), is_test, &mut names);
    names
}

fn walk(tokens: TokenStream, is_test: bool, names: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    // From the attributes before an item.
    let (mut is_test_fn, mut is_test_mod) = (false, false);
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(hash) if hash.as_char() == '#' => {
                // An inner attribute, as which `//!` is tokenised: `#![doc = "..."]`.
                tokens.next_if(|next| matches!(next, TokenTree::Punct(mark) if mark.as_char() == '!'));
                if let Some(TokenTree::Group(attribute)) =
                    tokens.next_if(|next| matches!(next, TokenTree::Group(_)))
                {
                    let text = attribute.stream().to_string().replace(' ', "");
                    is_test_fn |= text == "test" || text.starts_with("tokio::test");
                    is_test_mod |= text == "cfg(test)";
                }
            }
            TokenTree::Ident(word) if word == "fn" => {
                if let (true, Some(name)) = (is_test_fn, tokens.peek()) {
                    names.push(name.to_string());
                }
                is_test_fn = false;
            }
            TokenTree::Group(group) => {
                walk(group.stream(), is_test || is_test_mod, names);
                is_test_mod &= !ends_item(&group);
            }
            TokenTree::Punct(end) if end.as_char() == ';' => is_test_mod = false,
            TokenTree::Literal(literal) if is_test => {
                // A table is a string with one row per line.
                let text = text_of(&literal.to_string()).unwrap_or_default();
                names.extend(
                    text.lines().map(|line| line.split(" | ").next().unwrap_or(line).trim().to_owned()),
                );
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn ends_item(group: &Group) -> bool {
    group.delimiter() == Delimiter::Brace
}

/// The contents of a string literal, continued lines joined.
fn text_of(literal: &str) -> Option<String> {
    let inner = literal.trim_start_matches('r').trim_matches('#').strip_prefix('"')?.strip_suffix('"')?;
    let mut lines = inner.split("\\\n");
    let first = lines.next()?.to_owned();
    Some(lines.fold(first, |text, line| text + line.trim_start()))
}
