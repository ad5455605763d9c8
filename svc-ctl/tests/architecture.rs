//! Rules that the compiler does not check: the import table (ARCHITECTURE.md), no orphaned files, no long files, no
//! undocumented counters, no coined words, no two modules that import each other.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use svc_common::abi::Counter;
use svc_ctl::sweeper::Table;

/// Files with these prefixes must not import these paths. The first matching row applies.
const NEVER: &[(&[&str], &[&str])] = &[
    (
        &["svc-common/src/addr", "svc-common/src/family", "svc-common/src/wire"],
        &["crate::abi", "crate::datapath", "aya"],
    ),
    (&["svc-common/src/abi"], &["crate::wire", "crate::datapath", "aya::maps", "aya::programs"]),
    (&["svc-common/src/datapath"], &["aya", "std", "alloc", "rand", "log", "tracing"]),
    (&["svc-ebpf/src"], &["svc_ctl", "serde", "std", "alloc"]),
    (
        &["svc-ctl/src/source"],
        &[
            "crate::plan",
            "crate::dataplane",
            "crate::reconcile",
            "crate::node",
            "crate::observe::health",
            "crate::observe::status",
            "aya",
        ],
    ),
    (
        &["svc-ctl/src/model/convert", "svc-ctl/src/model/intake"],
        &["crate::plan", "crate::dataplane", "crate::reconcile", "kube", "aya", "tokio"],
    ),
    (
        &["svc-ctl/src/model"],
        &["crate::plan", "crate::dataplane", "crate::reconcile", "kube", "k8s_openapi", "aya", "tokio"],
    ),
    (
        &["svc-ctl/src/plan"],
        &[
            "crate::source",
            "crate::dataplane",
            "crate::reconcile",
            "kube",
            "k8s_openapi",
            "aya",
            "tokio",
            "std::time",
            "rand",
            "tracing",
        ],
    ),
    (
        &["svc-ctl/src/dataplane"],
        &["crate::model", "crate::source", "crate::reconcile", "kube", "k8s_openapi"],
    ),
    (&["svc-ctl/src/programs"], &["crate::source", "crate::reconcile", "kube", "k8s_openapi", "aya"]),
    (&["svc-ctl/src/node"], &["crate::plan", "crate::reconcile", "kube", "k8s_openapi", "aya"]),
    (&["svc-ctl/src/reconcile"], &["kube", "k8s_openapi", "aya"]),
    (&["svc-ctl/src/lb"], &["crate::plan", "crate::source", "crate::cli", "kube", "k8s_openapi", "aya"]),
    (
        &["svc-ctl/src/bgp"],
        &[
            "crate::plan",
            "crate::dataplane",
            "crate::reconcile",
            "crate::node",
            "crate::observe",
            "crate::source",
            "crate::cli",
            "crate::lb::bgp",
            "crate::lb::settings",
            "kube",
            "k8s_openapi",
            "aya",
        ],
    ),
    (&["svc-ctl/src/sweeper"], &["crate::source", "crate::cli", "kube", "k8s_openapi", "aya"]),
    (
        &["svc-ctl/src/dns"],
        &[
            "crate::plan",
            "crate::dataplane",
            "crate::reconcile",
            "crate::node",
            "crate::source",
            "crate::cli",
            "crate::observe::health",
            "crate::observe::status",
            "kube",
            "k8s_openapi",
            "aya",
        ],
    ),
    (
        &["svc-ctl/src/kube_proxy"],
        &[
            "crate::cli",
            "crate::config",
            "crate::dataplane",
            "crate::model",
            "crate::node",
            "crate::observe",
            "crate::plan",
            "crate::programs",
            "crate::reconcile",
            "crate::source",
            "crate::sweeper",
            "kube",
            "k8s_openapi",
            "aya",
            "tokio",
            "std::time",
        ],
    ),
    (
        &["svc-ctl/src/why"],
        &["crate::source", "crate::reconcile", "crate::cli", "kube", "k8s_openapi", "aya"],
    ),
    (&["svc-ctl/src/cli", "svc-ctl/src/observe", "svc-ctl/src/check"], &["kube", "k8s_openapi", "aya"]),
    // No expectation of a row comes from the decisions under test.
    (&["tests/src/packet"], &["svc_common::datapath"]),
    // The model of the tests shares no decision with svc. `crate` is the harness, whose other modules import svc.
    (
        &["tests/src/model"],
        &[
            "svc_common",
            "svc_ctl",
            "svc_ebpf",
            "aya",
            "crate::packet::flow",
            "crate::packet::kernel",
            "crate::packet::lab",
            "crate::packet::trial",
        ],
    ),
];

/// Exceptions to the table, with reasons.
const EXCEPTIONS: &[(&str, &str)] = &[
    // A packet's tuple is the key of its flow; a second type for it would be a copy.
    ("svc-common/src/wire/parse.rs", "crate::abi::FlowKey"),
    ("svc-common/src/wire/parse.rs", "crate::abi::limits::IPV6_EXTENSIONS"),
    // A flow record keeps checksum deltas, in the type of the one implementation.
    ("svc-common/src/abi/flow.rs", "crate::wire::checksum::Wsum"),
];

/// A longer file should be split.
const MAX_LINES: usize = 500;

/// Root files of crates.
const ROOTS: &[&str] = &["lib.rs", "main.rs", "bench.rs"];

#[test]
fn imports_follow_the_table() {
    let mut broken = Vec::new();
    for file in source_files() {
        let name = relative(&file);
        let row = NEVER.iter().find(|(prefixes, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let Some((_, never)) = row.filter(|_| !is_test_module(&name)) else { continue };
        for import in imports(&product_code(&read(&file))) {
            let forbidden =
                never.iter().any(|path| import == *path || import.starts_with(&format!("{path}::")));
            if forbidden && !EXCEPTIONS.contains(&(&name, &import)) {
                broken.push(format!("{name} imports {import}"));
            }
        }
    }
    assert!(broken.is_empty(), "see the import table in ARCHITECTURE.md:\n{}", broken.join("\n"));
}

#[test]
fn every_source_file_is_reached_by_a_mod() {
    let orphans: Vec<_> =
        source_files().iter().filter(|file| !is_reached(file)).map(|file| relative(file)).collect();
    assert!(orphans.is_empty(), "no `mod` names these files, so they are never compiled: {orphans:?}");
}

#[test]
fn no_file_exceeds_the_maximum_length() {
    let long = source_files().into_iter().filter(|file| read(file).lines().count() > MAX_LINES);
    let long: Vec<_> = long.map(|file| relative(&file)).collect();
    assert!(long.is_empty(), "longer than {MAX_LINES} lines, split them: {long:?}");
}

#[test]
fn every_file_says_what_it_owns() {
    let silent = source_files().into_iter().filter(|file| !read(file).starts_with("//!"));
    let silent: Vec<_> = silent.map(|file| relative(&file)).collect();
    assert!(silent.is_empty(), "these files do not open with `//!`: {silent:?}");
}

#[test]
fn every_counter_is_explained() {
    let page = read(&project().join("docs/counters.md"));
    let explained: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let evicted = Table::ALL.iter().filter_map(|table| table.evicted_label());
    let counted: BTreeSet<_> = Counter::ALL.iter().map(|counter| counter.label()).chain(evicted).collect();
    assert_eq!(explained, counted, "docs/counters.md disagrees with Counter and Table::evicted_label");
}

#[test]
fn every_page_is_in_the_index_of_docs() {
    let docs = project().join("docs");
    let index = read(&docs.join("README.md"));
    let pages =
        fs::read_dir(&docs).expect("docs can be read").map(|entry| entry.expect("an entry").file_name());
    let pages = pages.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.ends_with(".md"));
    let missing: Vec<_> =
        pages.filter(|name| name != "README.md" && !index.contains(&format!("]({name})"))).collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}

/// The code without its test module, comments and strings.
fn product_code(source: &str) -> String {
    let product = source.split("#[cfg(test)]\nmod ").next().unwrap_or(source);
    product.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Every path of a `use`, braces expanded, and the heads of paths used in place.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for statement in code.split(';') {
        let start = statement.rfind("\nuse ").or_else(|| statement.rfind("\npub use "));
        if let Some(start) = start.or_else(|| statement.starts_with("use ").then_some(0)) {
            let tree = statement[start..].trim().trim_start_matches("pub ").trim_start_matches("use ");
            expand("", tree, &mut found);
        }
    }
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found.extend(code.split(|c| !word(c)).filter(|path| path.contains("::")).map(String::from));
    found
}

/// `a::{b, c::{d, e}}` into `a::b`, `a::c::d`, `a::c::e`.
fn expand(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        if !path.is_empty() {
            found.insert(format!("{prefix}{path}"));
        }
        return;
    };
    let (prefix, mut depth, mut start) = (format!("{prefix}{}", head.trim()), 0, 0);
    let body = rest.rsplit_once('}').map_or(rest, |(body, _)| body);
    for (at, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &body[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &body[start..], found);
}

/// The file that owns this one's folder declares it.
fn is_reached(file: &Path) -> bool {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(folder) = file.parent() else { return false };
    let (module, folder) = match (name(file).as_str(), folder.parent()) {
        ("mod.rs", Some(outer)) => (name(folder), outer),
        (file, _) => (file.trim_end_matches(".rs").to_owned(), folder),
    };
    if folder.ends_with("src/bin") {
        return true; // found by cargo itself
    }
    let crate_root = folder.ends_with("src");
    if crate_root && ROOTS.contains(&name(file).as_str()) {
        return true;
    }
    let owners = match crate_root {
        true => ROOTS.iter().map(|root| folder.join(root)).collect(),
        false => vec![folder.join("mod.rs"), folder.with_extension("rs")],
    };
    let declaration = format!("mod {module};");
    owners.iter().any(|owner| {
        let source = fs::read_to_string(owner).unwrap_or_default();
        source.lines().any(|line| {
            let visibility = line.trim().strip_suffix(&declaration);
            visibility.is_some_and(|shown| shown.is_empty() || shown.starts_with("pub"))
        })
    })
}

fn is_test_module(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/")
}

const CRATES: [&str; 5] = ["svc-common", "svc-ebpf", "svc-ctl", "tests", "xtask"];

fn source_files() -> Vec<PathBuf> {
    rust_files(CRATES.map(|name| project().join(name).join("src")).to_vec())
}

/// Sources, tests and benchmarks.
fn all_rust_files() -> Vec<PathBuf> {
    let folders = ["src", "tests", "benches", "build"];
    let folders = CRATES.iter().flat_map(|name| folders.map(|folder| project().join(name).join(folder)));
    rust_files(folders.filter(|folder| folder.is_dir()).collect())
}

fn rust_files(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a crate has sources") {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in its workspace")
}

fn relative(file: &Path) -> String {
    file.strip_prefix(project()).expect("found below the project").display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn a_use_tree_is_expanded() {
    let code = "use a::b;\npub use crate::{plan::{Tables, ids as x}, model};\nfn f() { aya::maps::new() }";
    let found = imports(code);
    for path in ["a::b", "crate::plan::Tables", "crate::plan::ids", "crate::model", "aya::maps::new"] {
        assert!(found.contains(path), "{path} not in {found:?}");
    }
}
