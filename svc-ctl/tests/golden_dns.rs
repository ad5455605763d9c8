//! Manifests and questions in, answers out: every `golden_dns/*.dnstest` goes through the real parser, store and zone.
//!
//! A case is a head of comments, then sections. `-- manifests --` (or `-- manifests@2 --`) replaces all manifests. `--
//! answers --` asks: a line `? NAME TYPE` is a query, and each line below it is a record of the response. `--
//! complaints --` lists the refused fields.
//!
//! The zone follows the changes of the manifests; a zone made from scratch must give the same answers.
//! `UPDATE_EXPECT=1` rewrites answers and complaints; read the difference.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hickory_server::proto::rr::{Name, Record, RecordType};
use libtest_mimic::{Arguments, Failed, Trial};
use svc_ctl::dns::answer::{Answer, answer};
use svc_ctl::dns::zone::{Zone, ZoneSettings};
use svc_ctl::model::store::Store;
use svc_ctl::source::manifests::files::Files;
use svc_ctl::source::manifests::world::World as Objects;

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_dns");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder).expect("the cases' folder").map(|e| e.expect("a case").path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "dnstest"));
    cases.sort();
    let trial = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(name, move || run_case(&path).map_err(Failed::from))
    };
    libtest_mimic::run(&Arguments::from_args(), cases.into_iter().map(trial).collect()).exit_code()
}

/// Manifests and the daemon's data from them.
struct Daemon {
    files: Files,
    objects: Objects,
    store: Store,
    zone: Zone,
    complaints: Vec<String>,
}

impl Daemon {
    fn new() -> Self {
        let (mut store, objects) = (Store::new("node1").with_names(), Objects::default());
        objects.list().into_iter().for_each(|event| store.take(event));
        let zone = Zone::new(zone_settings());
        Self { files: Files::default(), objects, store, zone, complaints: Vec::new() }
    }

    fn set_manifests(&mut self, text: &str) {
        match text.is_empty() {
            true => self.files.remove("all.yaml"),
            false => self.files.update("all.yaml", Ok(text)),
        }
        let (objects, report) = self.files.objects();
        let objects = Objects::of(&objects);
        let changes = objects.changes_since(&self.objects);
        changes.into_iter().for_each(|event| self.store.take(event));
        self.objects = objects;
        self.zone.set_world(self.store.world(), 1);
        let refused = self.store.take_complaints().into_iter().flat_map(|(_, complaints)| complaints);
        self.complaints = report.into_iter().chain(refused).map(|c| c.to_string()).collect();
    }

    fn answer(&self, name: &Name, record_type: RecordType) -> Result<Option<Answer>, String> {
        let answered = answer(&self.zone, name, record_type);
        let mut afresh = Zone::new(zone_settings());
        afresh.set_world(self.store.world(), 1);
        match answer(&afresh, name, record_type) == answered {
            true => Ok(answered),
            false => Err(format!("{name} {record_type}: a zone made from scratch answers otherwise")),
        }
    }
}

fn zone_settings() -> ZoneSettings {
    ZoneSettings {
        domain: Name::from_ascii("cluster.local.").expect("a name"),
        addresses: vec!["192.0.2.53".parse().expect("an address")],
        is_forwarding: false,
    }
}

fn run_case(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut daemon = Daemon::new();
    let mut actual = String::new();
    for part in parts(&text) {
        let Some((title, body)) = part.split_once('\n').filter(|(title, _)| title.starts_with("-- ")) else {
            actual += part;
            continue;
        };
        let kind = title.trim_matches(['-', ' ']).split('@').next().unwrap_or_default();
        let body = match kind {
            "manifests" => {
                daemon.set_manifests(body);
                body.to_owned()
            }
            "answers" => answers(&daemon, body)?,
            "complaints" => daemon.complaints.iter().map(|line| format!("{line}\n")).collect(),
            other => return Err(format!("a section cannot be {other:?}")),
        };
        let _ = write!(actual, "{title}\n{body}");
    }
    if actual == text {
        return Ok(());
    }
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        return fs::write(path, actual).map_err(|error| error.to_string());
    }
    let is_new = |line: &&str| !text.lines().any(|known| known == *line);
    let new: Vec<&str> = actual.lines().filter(is_new).collect();
    Err(format!("with UPDATE_EXPECT=1 it is rewritten; new lines:\n{}", new.join("\n")))
}

/// The head, then each section with its title.
fn parts(text: &str) -> Vec<&str> {
    let starts = text.match_indices("\n-- ").map(|(at, _)| at + 1);
    let ends: Vec<usize> = starts.chain([text.len()]).collect();
    let mut from = 0;
    ends.into_iter().map(|to| &text[std::mem::replace(&mut from, to)..to]).collect()
}

fn answers(daemon: &Daemon, body: &str) -> Result<String, String> {
    let mut text = String::new();
    for line in body.lines() {
        if line.starts_with('#') || line.is_empty() {
            let _ = writeln!(text, "{line}");
        }
        let Some(question) = line.strip_prefix("? ") else { continue };
        let (name, record_type) = question.split_once(' ').ok_or_else(|| format!("{line}: NAME TYPE"))?;
        let name = Name::from_ascii(format!("{name}.")).map_err(|error| format!("{line}: {error}"))?;
        let record_type: RecordType = record_type.parse().map_err(|error| format!("{line}: {error}"))?;
        let _ = writeln!(text, "{line}");
        match daemon.answer(&name, record_type)? {
            None => text += "  not ours\n",
            Some(answer) => render(&answer, &mut text),
        }
    }
    Ok(text)
}

/// The order of records has no meaning, except for aliases.
fn render(answer: &Answer, text: &mut String) {
    let _ = writeln!(text, "  {}", format!("{:?}", answer.code).to_uppercase());
    let mut list = |section: &str, records: &[Record]| {
        let mut lines: Vec<String> = records.iter().map(|record| format!("  {section} {record}\n")).collect();
        if records.iter().all(|record| record.record_type() != RecordType::CNAME) {
            lines.sort();
        }
        text.extend(lines);
    };
    list("answer", &answer.answers);
    list("authority", &answer.authorities);
    list("additional", &answer.additionals);
    if let Some(name) = &answer.continues_at {
        let _ = writeln!(text, "  and what others say of {name}");
    }
}
