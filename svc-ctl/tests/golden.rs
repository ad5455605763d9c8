//! YAML in, tables out: every `golden/*.svctest` goes through the real parser, store, plan and difference into the
//! fake store.
//!
//! A case is steps, then sections. A section `-- web.yaml@2 --` is a state of the file `web.yaml`.
//!
//! | step | does |
//! |---|---|
//! | `node NAME ADDRESS..` | who we are (first, at most once) |
//! | `nodeport-addresses LIST`, `service-cidr LIST` | the flags |
//! | `capacity TABLE N` | room in a table (`selection`, `backends`, `services`, `frontends`) |
//! | `apply SECTION..` | writes files, all in one edit |
//! | `delete FILE..` | removes files |
//! | `restart` | forgets everything but what the fake kernel holds |
//! | `tables == SECTION` | compares all tables, rendered |
//! | `rejected == SECTION` | compares what is rejected, a line each |
//! | `serving == SECTION` | compares where UDP flows may stay: unchanged, none is looked for |
//! | `health == SECTION` | compares health check ports and the local endpoints they tell |
//!
//! After every edit it is checked that each prefix of the changes is whole and that planning again changes nothing.
//! `UPDATE_EXPECT=1` rewrites the compared sections; read the difference.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use svc_ctl::dataplane::fake::FakeStore;
use svc_ctl::dataplane::store::MapStore as _;
use svc_ctl::model::node::NodeAddresses;
use svc_ctl::model::rejected::Rejected;
use svc_ctl::model::store::Store;
use svc_ctl::plan::desired::{Settings, plan_tables};
use svc_ctl::plan::diff::{apply_op, plan_diff};
use svc_ctl::plan::health_ports::{HealthPort, plan_health_ports};
use svc_ctl::plan::ids::{Capacity, GRACE_TICKS, Ids, Tick};
use svc_ctl::plan::render::{frontend_text, parse, render};
use svc_ctl::plan::serving::Serving;
use svc_ctl::plan::tables::{Frontend, Tables};
use svc_ctl::source::event::SourceEvent;
use svc_ctl::source::manifests::files::Files;
use svc_ctl::source::manifests::world::World;

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

/// A case as text.
struct Case {
    steps: Vec<(usize, String)>,
    sections: Vec<(String, String)>,
    head: String,
}

impl Case {
    fn parse(text: &str) -> Self {
        let mut case = Self { steps: Vec::new(), sections: Vec::new(), head: String::new() };
        for (i, line) in text.lines().enumerate() {
            let name = line.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --"));
            match (name, case.sections.last_mut()) {
                (Some(name), _) => case.sections.push((name.to_owned(), String::new())),
                (None, Some((_, body))) => *body += &format!("{line}\n"),
                (None, None) => {
                    case.head += &format!("{line}\n");
                    if !line.trim().is_empty() && !line.starts_with('#') {
                        case.steps.push((i + 1, line.to_owned()));
                    }
                }
            }
        }
        case
    }

    fn section(&self, name: &str) -> Result<&str, String> {
        let found = self.sections.iter().find(|(n, _)| n == name);
        found
            .map(|(_, body)| body.trim_end_matches('\n'))
            .ok_or_else(|| format!("there is no section {name:?}"))
    }

    fn set_section(&mut self, name: &str, body: String) {
        match self.sections.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = body,
            None => self.sections.push((name.to_owned(), body)),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.head.trim_end());
        for (name, body) in &self.sections {
            text += &format!("\n-- {name} --\n{}\n", body.trim_matches('\n'));
        }
        text
    }
}

fn run_case(path: &Path) -> Result<(), String> {
    let mut case = Case::parse(&fs::read_to_string(path).map_err(|e| e.to_string())?);
    let update = std::env::var_os("UPDATE_EXPECT").is_some_and(|v| v == "1");
    let mut run = Run::new();
    let mut used = Vec::new();
    for (line, step) in case.steps.clone() {
        let words: Vec<&str> = step.split_whitespace().collect();
        let result = match words.as_slice() {
            [what @ ("tables" | "rejected" | "serving" | "health"), "==", name] => {
                used.push((*name).to_owned());
                let actual = match *what {
                    "tables" => render(&run.kernel.tables),
                    "rejected" => run.rejected(),
                    "serving" => run.serving(),
                    _ => run.health()?,
                };
                compare(&mut case, name, &actual, update)
            }
            ["apply", names @ ..] => {
                used.extend(names.iter().map(|n| (*n).to_owned()));
                let files = names.iter().map(|n| case.section(n).map(|text| (*n, text.to_owned())));
                files.collect::<Result<Vec<_>, _>>().and_then(|files| run.apply(&files))
            }
            _ => run.step(&words),
        };
        result.map_err(|reason| format!("line {line}: {step}\n{reason}"))?;
    }
    let unused = case.sections.iter().find(|(name, _)| !used.contains(name));
    if let Some((name, _)) = unused {
        return Err(format!("section {name:?} is not used"));
    }
    if update { fs::write(path, case.text()).map_err(|e| e.to_string()) } else { Ok(()) }
}

fn compare(case: &mut Case, name: &str, actual: &str, update: bool) -> Result<(), String> {
    if update {
        case.set_section(name, actual.to_owned());
    }
    let (expected, actual) = (case.section(name)?.trim(), actual.trim());
    if expected == actual {
        return Ok(());
    }
    let missing = expected.lines().filter(|l| !actual.lines().any(|a| a == *l)).map(|l| format!("- {l}\n"));
    let surplus = actual.lines().filter(|l| !expected.lines().any(|e| e == *l)).map(|l| format!("+ {l}\n"));
    Err(missing.chain(surplus).collect())
}

/// One daemon after another, and the kernel that outlives them.
struct Run {
    node: String,
    addresses: NodeAddresses,
    settings: Settings,
    capacity: Capacity,
    files: Files,
    world: Option<World>,
    store: Store,
    ids: Ids,
    kernel: FakeStore,
    problems: Vec<Rejected>,
    serving: Serving,
    clock: Tick,
}

impl Run {
    fn new() -> Self {
        let addrs =
            ["127.0.0.1", "192.168.0.2", "::1", "2001:db8::1"].map(|a| a.parse().expect("an address"));
        let capacity = Capacity::default();
        Self {
            node: "test-node".to_owned(),
            addresses: NodeAddresses { addrs: addrs.into(), ..NodeAddresses::default() },
            settings: Settings::default(),
            capacity,
            files: Files::default(),
            world: None,
            store: Store::new("test-node"),
            ids: Ids::restored(&Tables::default(), capacity),
            kernel: FakeStore::default(),
            problems: Vec::new(),
            serving: Serving::default(),
            clock: Tick(0),
        }
    }

    fn step(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["node", name, addrs @ ..] => {
                let addrs = addrs.iter().map(|a| a.parse().map_err(|_| format!("{a:?} is no address")));
                self.addresses.addrs = addrs.collect::<Result<_, String>>()?;
                self.node = (*name).to_owned();
                self.restart();
            }
            ["nodeport-addresses", list] => self.settings.node_port_addresses = list.parse()?,
            ["service-cidr", list] => self.settings.service_cidrs = list.parse()?,
            ["capacity", table, number] => {
                let number = number.parse().map_err(|_| format!("{number:?} is no number"))?;
                match *table {
                    "selection" => self.capacity.selection = number,
                    "backends" => self.capacity.backends = number,
                    "services" => self.capacity.services = number,
                    "frontends" => self.capacity.frontends = number,
                    other => return Err(format!("there is no table {other:?}")),
                }
                self.restart();
            }
            ["delete", names @ ..] => {
                names.iter().for_each(|name| self.files.remove(name));
                return self.reconcile();
            }
            ["restart"] => {
                self.restart();
                return self.reconcile();
            }
            other => return Err(format!("unknown step {other:?}")),
        }
        Ok(())
    }

    fn apply(&mut self, files: &[(&str, String)]) -> Result<(), String> {
        for (section, text) in files {
            let file = section.split('@').next().unwrap_or_default();
            self.files.update(file, Ok(text));
        }
        self.reconcile()
    }

    fn restart(&mut self) {
        self.world = None;
        self.store = Store::new(&self.node);
        self.ids = Ids::restored(&self.kernel.tables, self.capacity);
    }

    fn reconcile(&mut self) -> Result<(), String> {
        let (objects, report) = self.files.objects();
        let world = World::of(&objects);
        let batch = self.world.as_ref().map_or_else(|| world.list(), |before| world.changes_since(before));
        for event in batch.into_iter().chain([SourceEvent::Report(report)]) {
            self.store.take(event);
        }
        self.store.set_addresses(self.addresses.clone());
        self.world = Some(world);
        let is_full = self.plan(true)?;
        // A later attempt finds nothing to do (PAR-131), unless it waited for places to come free.
        self.clock.0 += GRACE_TICKS;
        self.plan(is_full).map(drop)
    }

    fn plan(&mut self, may_change: bool) -> Result<bool, String> {
        let snapshot = self.store.snapshot().ok_or("the source is not complete")?;
        let planned =
            plan_tables(&snapshot, &self.settings, &self.kernel.tables, self.ids.clone(), self.clock);
        self.problems = planned.problems;
        self.serving = planned.serving;
        self.ids = planned.ids;
        let ops = plan_diff(&self.kernel.tables, &planned.tables);
        if !may_change && !ops.is_empty() {
            return Err(format!("planning again is not silent: {ops:?}"));
        }
        let mut tables = self.kernel.tables.clone();
        for op in &ops {
            apply_op(&mut tables, op);
            whole(&tables).map_err(|reason| format!("after {op:?}: {reason}"))?;
        }
        self.kernel.apply(&ops).1.map_err(|e| e.to_string())?;
        self.ids.release(self.clock);
        let text = render(&self.kernel.tables);
        if parse(&text).as_ref() != Ok(&self.kernel.tables) {
            return Err(format!("rendered tables do not read back:\n{text}"));
        }
        Ok(planned.is_full)
    }

    fn rejected(&self) -> String {
        self.store.rejected().iter().chain(&self.problems).map(|r| format!("{r}\n")).collect()
    }

    fn serving(&self) -> String {
        let line = |(frontend, set): (&Frontend, &Arc<BTreeSet<SocketAddr>>)| {
            let set: Vec<String> = set.iter().map(ToString::to_string).collect();
            format!("{} {}\n", frontend_text(frontend), set.join(" "))
        };
        self.serving.iter().map(line).collect()
    }

    fn health(&mut self) -> Result<String, String> {
        let snapshot = self.store.snapshot().ok_or("the source is not complete")?;
        let (planned, _) = plan_health_ports(&snapshot, &self.settings.node_port_addresses);
        let line = |(port, of): (&NonZeroU16, &HealthPort)| {
            format!("{port} {} {} local\n", of.service, of.local_endpoints)
        };
        Ok(planned.ports.iter().map(line).collect())
    }
}

/// No frontend names a missing extent and no extent a missing backend.
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
