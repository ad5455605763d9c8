//! Two modules that import each other cannot be read one after the other. No new pair may appear, and one that is gone
//! may not come back. Circles of three and more are not looked for, nor those
//! through a parent that re-exports.

use std::collections::{BTreeMap, BTreeSet};

use crate::{imports, is_test_module, product_code, read, relative, source_files};

/// The pairs that are left, of modules of a crate's first two levels.
const LEFT: &[(&str, &str)] = &[
    // A store converts what it takes, and the conversion names what the store keeps.
    ("svc-ctl model::convert", "svc-ctl model::store"),
    // `presence` marks in all maps, and both parts open theirs as the others are opened.
    ("svc-ctl dataplane::maps", "svc-ctl dataplane::presence"),
    ("svc-ctl dataplane::maps", "svc-ctl dataplane::service_counters"),
    // Filters and links are two kinds of attachment.
    ("svc-ctl dataplane::attach", "svc-ctl dataplane::clsact"),
    ("svc-ctl dataplane::attach", "svc-ctl dataplane::links"),
    // The file of k3s is explained in the lines of `explain`.
    ("svc-ctl kube_proxy::explain", "svc-ctl kube_proxy::k3s"),
    // The command starts the daemon, which reads the command line again when its file changes.
    ("svc-ctl app", "svc-ctl cli::run"),
    // The stages need the pipeline's trait `Net` or another stage's outcomes.
    ("svc-ebpf affinity", "svc-ebpf choose"),
    ("svc-ebpf bypass", "svc-ebpf pipeline"),
    ("svc-ebpf choose", "svc-ebpf new_flow"),
    ("svc-ebpf choose", "svc-ebpf pipeline"),
    ("svc-ebpf icmp_inner", "svc-ebpf pipeline"),
    ("svc-ebpf new_flow", "svc-ebpf pipeline"),
    ("svc-ebpf no_ports", "svc-ebpf pipeline"),
    ("svc-ebpf pipeline", "svc-ebpf sctp"),
    ("svc-ebpf pipeline", "svc-ebpf tuple_conflict"),
    // The scratch map holds the question to the routing table, and the question reads the configuration.
    ("svc-ebpf fib", "svc-ebpf maps"),
    // All three take the unspecified address from `obey`.
    ("tests agent::obey", "tests agent::probe"),
    ("tests agent::obey", "tests agent::refused"),
    ("tests agent::obey", "tests agent::request"),
    // A namespace runs `ip` for one family of the topology; a cell is played on a world, a row on a Maglev table, and a group
    // is made of rows.
    ("tests matrix::cell", "tests matrix::world"),
    ("tests netns", "tests topology"),
    ("tests packet::maglev", "tests packet::row"),
    ("tests witness::group", "tests witness::row"),
];

/// The imports of each module, by its name of at most two levels: `svc-ctl plan::ids`.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_other_two_modules_import_each_other() {
    let graph = graph();
    let mut found = BTreeSet::new();
    for (module, imported) in &graph {
        for other in imported.iter().filter(|other| *other > module && imports_back(&graph, other, module)) {
            found.insert((module.as_str(), other.as_str()));
        }
    }
    let left: BTreeSet<_> = LEFT.iter().copied().collect();
    assert_eq!(found, left, "modules that import each other, and those listed in LEFT");
}

/// The module itself, or one inside it.
fn is_part_of(module: &str, other: &str) -> bool {
    module.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn imports_back(graph: &Graph, module: &str, other: &str) -> bool {
    graph.get(module).is_some_and(|imported| imported.contains(other))
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
