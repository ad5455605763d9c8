//! Keeps coined words and riddles out of code and comments. CONTRIBUTING.md has the glossary.

use std::fs;
use std::path::PathBuf;

use crate::{all_rust_files, project, read, relative};

/// Words that only this project used, with what to say instead.
const COINED: &[(&str, &str)] = &[
    ("any_source", "wildcard_source"),
    ("calm", "without faults"),
    ("census", "totals"),
    ("fate", "outcome, verdict"),
    ("gives_way", "reuses_tuple, tuple_conflict"),
    ("has_arrived", "is_complete"),
    ("hurt", "inject a fault"),
    ("janitor", "cleanup"),
    ("knows_twin", "can_make_twin"),
    ("let_go", "release"),
    ("mood", "profile"),
    ("nobodys", "without a frontend"),
    ("obey", "execute"),
    ("portless", "without ports"),
    ("shelf", "what the thing is"),
    ("stack_way", "masquerade_path"),
    ("stay_until", "expires_at"),
    ("theatre", "fixtures, testbed"),
    ("told", "published, knows"),
    ("untold", "unpublished"),
    ("untupled", "without a tuple"),
];

/// Words with which a comment must not begin, because its subject would be missing.
const OPENERS: &[&str] =
    &["Nobody", "Nothing", "These", "Those", "What", "Whatever", "Which", "Who", "Whom", "Whose"];

#[test]
fn no_coined_word_comes_back() {
    let mut found = Vec::new();
    for file in texts() {
        for (number, line) in read(&file).lines().enumerate() {
            let said = COINED.iter().filter(|(coined, _)| has_word(line, coined));
            found.extend(said.map(|(coined, better)| {
                format!("{}:{}: {coined:?}, say: {better}", relative(&file), number + 1)
            }));
        }
    }
    assert!(found.is_empty(), "coined words:\n{}", found.join("\n"));
}

#[test]
fn comments_begin_with_their_subject() {
    let mut found = Vec::new();
    for file in all_rust_files() {
        for (number, line) in read(&file).lines().enumerate() {
            if comment(line)
                .and_then(|text| text.split(' ').next())
                .is_some_and(|word| OPENERS.contains(&word))
            {
                found.push(format!("{}:{}: {}", relative(&file), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "comments without a subject:\n{}", found.join("\n"));
}

#[test]
fn names_of_functions_begin_with_their_subject() {
    let mut found = Vec::new();
    for file in all_rust_files() {
        for (number, line) in read(&file).lines().enumerate() {
            let name = line.split("fn ").nth(1).unwrap_or_default();
            if ["what_", "who_", "whose_", "nobody_"].iter().any(|opener| name.starts_with(opener)) {
                found.push(format!("{}:{}: {}", relative(&file), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "names without a subject:\n{}", found.join("\n"));
}

/// Code and pages, except the list of coined words itself.
fn texts() -> Vec<PathBuf> {
    let pages = ["README.md", "ARCHITECTURE.md"].map(|name| project().join(name)).into_iter();
    let docs = fs::read_dir(project().join("docs")).expect("there is documentation");
    let docs = docs.filter_map(|entry| Some(entry.ok()?.path()));
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let code = all_rust_files().into_iter().filter(|file| !file.ends_with("architecture/words.rs"));
    code.chain(pages).chain(docs).collect()
}

/// A word or name of the line contains the coined word, also within a longer name: `Theatre`, `new_theatre`.
fn has_word(line: &str, coined: &str) -> bool {
    let coined = format!("_{coined}_");
    snake_case(line).split(' ').any(|name| format!("_{name}_").contains(&coined))
}

fn snake_case(line: &str) -> String {
    let mut words = String::new();
    let mut was_lower = false;
    for c in line.chars() {
        if c.is_uppercase() && was_lower {
            words.push('_');
        }
        match c {
            '_' => words.push(c),
            c if c.is_alphanumeric() => words.extend(c.to_lowercase()),
            _ => words.push(' '),
        }
        was_lower = c.is_lowercase();
    }
    words
}

/// The text of a comment line.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

#[test]
fn a_word_is_found_within_a_name_and_not_within_a_word() {
    for line in ["struct Theatre;", "let new_theatre = 1;", "/// A theatre.", "TheatreOfWar"] {
        assert!(has_word(line, "theatre"), "{line}");
    }
    assert!(has_word("fn gives_way()", "gives_way") && has_word("GivesWay", "gives_way"));
    assert!(!has_word("bookshelf", "shelf") && !has_word("it gives way", "gives_way"));
    assert_eq!(comment("    /// Whose it is"), Some("Whose it is"));
    assert_eq!(comment("let a = 1; // no line of its own"), None);
}
