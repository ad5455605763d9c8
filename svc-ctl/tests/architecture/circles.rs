//! There is no circle of imports, of any length, because modules in a circle cannot be read one after the other. Names
//! that a module re-exports from its own parts do not count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{imports, is_test_module, product_code, read, relative, source_files};

/// The imports of each module, by its name of at most two levels: `svc-ctl plan::ids`.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let circles = circles(&graph());
    let lines: Vec<_> = circles.iter().map(|circle| circle.join(" -> ")).collect();
    assert!(lines.is_empty(), "move what these modules share to a module of its own:\n{}", lines.join("\n"));
}

/// A shortest circle through each module that is in one, each circle once.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for module in graph.keys() {
        if found.iter().any(|circle| circle.contains(module)) {
            continue;
        }
        found.extend(shortest_circle(graph, module));
    }
    found
}

/// Goes along the imports, nearest modules first, until they lead back.
fn shortest_circle(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut paths = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop_front() {
        for next in path.last().and_then(|last| graph.get(last)).into_iter().flatten() {
            let longer = path.iter().chain([next]).cloned().collect();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next) {
                paths.push_back(longer);
            }
        }
    }
    None
}

/// The module itself, or one inside it.
fn is_part_of(module: &str, other: &str) -> bool {
    module.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn graph() -> Graph {
    let files: Vec<_> = source_files().into_iter().map(|file| (relative(&file), file)).collect();
    let modules: BTreeSet<_> = files.iter().filter_map(|(name, _)| module_of(name)).collect();
    let mut graph = Graph::new();
    for (name, file) in files.iter().filter(|(name, _)| !is_test_module(name)) {
        let Some((krate, path)) = module_of(name) else { continue };
        for import in imports(&product_code(&read(file))) {
            let Some(target) = resolve(&krate, &path, &import, &modules) else { continue };
            let [from, to] = [&path, &target].map(|path| two_levels(&krate, path));
            // A module and its own parts are one.
            if !is_part_of(&from, &to) && !is_part_of(&to, &from) {
                graph.entry(from).or_default().insert(to);
            }
        }
    }
    graph
}

/// Crate and path of a file's module; a crate's root, which names all modules, is none.
fn module_of(name: &str) -> Option<(String, Vec<String>)> {
    let (krate, file) = name.split_once("/src/")?;
    let path = file.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let path: Vec<_> = path.split('/').map(str::to_owned).collect();
    let is_root = matches!(path.first().map(String::as_str), Some("lib" | "main" | "bench" | "bin"));
    (!is_root && krate != "xtask").then(|| (krate.to_owned(), path))
}

/// The module that has the imported item: the longest head of its path that is one.
fn resolve(
    krate: &str,
    path: &[String],
    import: &str,
    modules: &BTreeSet<(String, Vec<String>)>,
) -> Option<Vec<String>> {
    let mut parts: Vec<_> = import.split("::").map(str::to_owned).collect();
    let supers = parts.iter().take_while(|part| *part == "super").count();
    let mut target = match parts.first()?.as_str() {
        "crate" => parts.split_off(1),
        "super" => {
            let mut target = path[..path.len().checked_sub(supers)?].to_vec();
            target.extend(parts.split_off(supers));
            target
        }
        _ => return None,
    };
    while !target.is_empty() {
        if modules.contains(&(krate.to_owned(), target.clone())) {
            return Some(target);
        }
        target.pop();
    }
    None
}

fn two_levels(krate: &str, path: &[String]) -> String {
    format!("{krate} {}", path.iter().take(2).cloned().collect::<Vec<_>>().join("::"))
}

#[test]
fn an_import_leads_to_the_module_that_has_the_item() {
    let modules = ["plan/ids.rs", "plan/book/mod.rs", "plan/mod.rs"]
        .iter()
        .filter_map(|file| module_of(&format!("svc-ctl/src/{file}")))
        .collect();
    let path = ["plan".to_owned(), "book".to_owned()];
    let target = |import| resolve("svc-ctl", &path, import, &modules).map(|path| path.join("::"));
    assert_eq!(target("crate::plan::ids::Full").as_deref(), Some("plan::ids"));
    assert_eq!(target("super::ids::Full").as_deref(), Some("plan::ids"));
    assert_eq!(target("super::Tables").as_deref(), Some("plan"));
    assert_eq!(target("std::fs"), None);
}

#[test]
fn a_circle_of_three_is_found_and_a_chain_is_none() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    let chain = [("entry", "a"), ("a", "b"), ("b", "c"), ("a", "c")];
    assert!(circles(&graph(&chain)).is_empty());
    let circle = [chain.as_slice(), &[("c", "a")]].concat();
    assert_eq!(circles(&graph(&circle)), [vec!["a", "c", "a"], vec!["b", "c", "a", "b"]]);
}
