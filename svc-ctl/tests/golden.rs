//! YAML in, tables out: every `golden/*.svctest` goes through the real parser, store, plan and diff into the fake
//! store. The tier `packets` plays the same cases through the programs.
//!
//! A case is steps, then sections. A section `-- web.yaml@2 --` is a state of the file `web.yaml`.
//!
//! | step | does |
//! |---|---|
//! | `node NAME ADDRESS..` | who we are (first, at most once) |
//! | `nodeport-addresses LIST`, `service-cidr LIST` | the flags |
//! | `pools SECTION` | the section `loadBalancer` of the configuration file |
//! | `capacity TABLE N` | room in a table (`selection`, `backends`, `services`, `frontends`) |
//! | `apply SECTION..` | writes files, all in one edit |
//! | `delete FILE..` | removes files |
//! | `restart` | forgets everything but what the fake kernel holds |
//! | `tables == SECTION` | compares all tables, rendered |
//! | `rejected == SECTION` | compares what is rejected, a line each |
//! | `serving == SECTION` | compares where UDP flows may stay: unchanged, none is looked for |
//! | `health == SECTION` | compares health check ports and the local endpoints they report |
//! | `writes == N` | compares how many changes of tables the last edit took |
//!
//! After every edit it is checked that each prefix of the changes is whole and that planning again changes nothing.
//! `UPDATE_EXPECT=1` rewrites the compared sections; read the difference.

#[path = "golden/case.rs"]
mod case;
#[path = "golden/daemon.rs"]
mod daemon;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use case::Case;
use daemon::Daemon;
use libtest_mimic::{Arguments, Failed, Trial};
use svc_ctl::dataplane::fake::FakeStore;
use svc_ctl::dataplane::store::{MapStore, StoreError};
use svc_ctl::observe::health::ports::HealthPort;
use svc_ctl::plan::capacity::Capacity;
use svc_ctl::plan::render::{frontend_text, parse, render};
use svc_ctl::plan::tables::{Frontend, MapOp, Tables};

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder).expect("the cases' folder").map(|e| e.expect("a case").path()).collect();
    cases.retain(|p| p.extension().is_some_and(|e| e == "svctest"));
    cases.sort();
    let trial = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(name, move || run_case(&path).map_err(Failed::from))
    };
    libtest_mimic::run(&Arguments::from_args(), cases.into_iter().map(trial).collect()).exit_code()
}

fn run_case(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let mut case = Case::parse(&text);
    let update = std::env::var_os("UPDATE_EXPECT").is_some_and(|v| v == "1");
    let (mut daemon, mut kernel) = (Daemon::new(), WholeStore::default());
    let mut used = Vec::new();
    for step in case.steps.clone() {
        let words: Vec<&str> = step.text.split_whitespace().collect();
        let result = match words.as_slice() {
            ["writes", "==", number] if **number == daemon.writes.to_string() => Ok(()),
            ["writes", "==", _] => Err(format!("{} writes", daemon.writes)),
            [what, "==", name] => {
                used.push((*name).to_owned());
                let actual = match *what {
                    "tables" => tables(&kernel.0.tables)?,
                    "rejected" => daemon.rejected(),
                    "serving" => serving(&daemon),
                    "health" => health(&daemon),
                    other => return Err(format!("line {}: {other:?} is nothing to compare", step.line)),
                };
                compare(&mut case, name, &actual, update)
            }
            words => {
                used.extend(words.iter().map(|word| (*word).to_owned()));
                daemon.take(words, &case, &mut kernel)
            }
        };
        result.map_err(|reason| format!("{}\nline {}: {}\n{reason}", step.sentence, step.line, step.text))?;
    }
    let unused = case.sections.iter().find(|(name, _)| !used.contains(name));
    if let Some((name, _)) = unused {
        return Err(format!("section {name:?} is not used"));
    }
    if update { fs::write(path, rewritten(&text, &case)).map_err(|e| e.to_string()) } else { Ok(()) }
}

fn compare(case: &mut Case, name: &str, actual: &str, update: bool) -> Result<(), String> {
    if update {
        match case.sections.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => actual.clone_into(old),
            None => case.sections.push((name.to_owned(), actual.to_owned())),
        }
    }
    let (expected, actual) = (case.section(name)?.trim(), actual.trim());
    if expected == actual {
        return Ok(());
    }
    let missing = expected.lines().filter(|l| !actual.lines().any(|a| a == *l)).map(|l| format!("- {l}\n"));
    let surplus = actual.lines().filter(|l| !expected.lines().any(|e| e == *l)).map(|l| format!("+ {l}\n"));
    Err(missing.chain(surplus).collect())
}

/// The text of a case, with the sections as they are now.
fn rewritten(text: &str, case: &Case) -> String {
    let head = text.split("\n-- ").next().unwrap_or_default();
    let sections =
        case.sections.iter().map(|(name, body)| format!("\n-- {name} --\n{}\n", body.trim_matches('\n')));
    format!("{}\n", head.trim_end()) + &sections.collect::<String>()
}

fn tables(tables: &Tables) -> Result<String, String> {
    let text = render(tables);
    match parse(&text) {
        Ok(read) if read == *tables => Ok(text),
        _ => Err(format!("rendered tables do not read back:\n{text}")),
    }
}

fn serving(daemon: &Daemon) -> String {
    let line = |(frontend, set): (&Frontend, &Arc<BTreeSet<SocketAddr>>)| {
        let set: Vec<String> = set.iter().map(ToString::to_string).collect();
        format!("{} {}\n", frontend_text(frontend), set.join(" "))
    };
    daemon.in_force().serving.iter().map(line).collect()
}

fn health(daemon: &Daemon) -> String {
    let line = |(port, of): (&NonZeroU16, &HealthPort)| {
        format!("{port} {} {} local\n", of.service, of.local_endpoints)
    };
    daemon.health_ports().ports.iter().map(line).collect()
}

/// The simulated kernel. It refuses every op that breaks the tables: a frontend that names a missing extent, or an
/// extent with a missing backend.
#[derive(Default)]
struct WholeStore(FakeStore);

impl MapStore for WholeStore {
    fn apply(&mut self, ops: &[MapOp]) -> Vec<(usize, StoreError)> {
        let mut failures = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            failures
                .extend(self.0.apply(std::slice::from_ref(op)).into_iter().map(|(_, error)| (index, error)));
            if let Err(reason) = whole(&self.0.tables) {
                let source = io::Error::other(reason);
                let operation = format!("{op:?}");
                failures.push((index, StoreError { map: "the tables are torn", operation, source }));
            }
        }
        failures
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        self.0.dump()
    }

    fn capacity(&self) -> Capacity {
        self.0.capacity()
    }

    fn fill_from(&mut self, old: &Self, tables: &Tables) -> Result<(), StoreError> {
        self.0.fill_from(&old.0, tables)
    }
}

fn whole(tables: &Tables) -> Result<(), String> {
    for (frontend, entry) in &tables.frontends {
        for extent in [entry.cluster, entry.local].into_iter().filter(|e| e.count > 0) {
            let set = tables.extents.get(&extent).ok_or_else(|| format!("{frontend:?} names no extent"))?;
            let missing = set.iter().find(|id| !tables.backends.contains_key(id));
            missing.map_or(Ok(()), |id| Err(format!("{extent:?} names no backend {id:?}")))?;
        }
    }
    Ok(())
}
