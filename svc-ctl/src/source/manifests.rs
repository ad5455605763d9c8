//! A folder (or one file) of ordinary Kubernetes YAML, watched: edits are events.
//!
//! ClusterIPs and node ports that manifests do not write are given as an API server gives them (`assign`); names and
//! load-balancer addresses must be written. Pods are picked by Services' selectors and Endpoints are mirrored as Kubernetes'
//! controllers do it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ipnet::IpNet;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::event::Batch;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::observe::ledger::Ledger;
use files::Files;
use world::World;

mod assign;
pub mod document;
pub mod files;
pub mod mirror;
pub mod pods;
pub mod world;

/// Looked at again even if nobody says so: a folder that was away, a watch that overflowed, a network file system.
const RESCAN_SECS: u64 = 5;
/// Events that come this close together are one edit.
const SETTLE_MILLIS: u64 = 10;
/// Editors move a file away before they write it anew: it is gone only after this.
const REMOVE_SETTLE_MILLIS: u64 = 100;
/// A file that is being written is left alone until its writer closes it, or at most this long.
const WRITING_SECS: u64 = 2;

/// What tells whether a file has to be read again: inode, size, time of change.
type Stamp = (u64, u64, Option<SystemTime>);

/// The files that count, what was sent of them, and what is wrong with them.
#[derive(Debug)]
pub struct Manifests {
    folder: PathBuf,
    /// Only this file of the folder.
    only: Option<String>,
    /// Where Services get their ClusterIPs; without a range they must write them.
    service_cidrs: Vec<IpNet>,
    /// What was last seen of each file: its stamp, or why it cannot be read.
    seen: BTreeMap<String, Result<Stamp, String>>,
    files: Files,
    folder_problem: Option<String>,
    sent: Option<World>,
    report: Vec<Complaint>,
}

impl Manifests {
    /// A folder or a file that exists.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| format!("manifests: {}", path.display()))?;
        let is_folder = path.is_dir();
        let only = (!is_folder).then(|| path.file_name().map(|n| n.to_string_lossy().into_owned())).flatten();
        let folder = if is_folder { path } else { path.parent().map(Path::to_path_buf).unwrap_or_default() };
        std::fs::read_dir(&folder).with_context(|| format!("manifests: {}", folder.display()))?;
        Ok(Self {
            folder,
            only,
            service_cidrs: Vec::new(),
            seen: BTreeMap::new(),
            files: Files::default(),
            folder_problem: None,
            sent: None,
            report: Vec::new(),
        })
    }

    #[must_use]
    pub fn with_service_cidrs(self, service_cidrs: Vec<IpNet>) -> Self {
        Self { service_cidrs, ..self }
    }

    /// Reads what has changed, but for files that somebody is writing. Returns what is new: everything at first, and
    /// nothing, without any work, where no file has changed.
    pub fn scan(&mut self, writing: &BTreeSet<String>) -> Option<Batch> {
        let (is_changed, problem) = match self.read_folder(writing) {
            Ok(is_changed) => (is_changed, None),
            Err(error) => (false, Some(format!("{error}; its last good state stays in force"))),
        };
        if !is_changed && self.sent.is_some() && self.folder_problem == problem {
            return None;
        }
        self.folder_problem = problem;
        let (objects, mut report) = self.files.objects();
        let mut world = World::of(&objects);
        report.extend(world.assign(&self.service_cidrs));
        let folder = self.folder.display().to_string();
        report.extend(self.folder_problem.iter().map(|p| Complaint::new(Kind::Source, &folder, "", p)));
        let batch = match &self.sent {
            None => world.list(),
            Some(before) => world.changes_since(before),
        };
        (self.sent, self.report) = (Some(world), report);
        Some(batch)
    }

    /// What is wrong with the files.
    pub fn report(&self) -> &[Complaint] {
        &self.report
    }

    /// Answers whether any file has changed.
    fn read_folder(&mut self, writing: &BTreeSet<String>) -> io::Result<bool> {
        let mut present = BTreeSet::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if self.counts(&name) {
                present.insert(name);
            }
        }
        let gone: Vec<String> =
            self.files.names().filter(|n| !present.contains(*n)).map(str::to_owned).collect();
        for name in &gone {
            self.files.remove(name);
            self.seen.remove(name);
        }
        let mut is_changed = !gone.is_empty();
        for name in present.iter().filter(|n| !writing.contains(*n)) {
            is_changed |= self.read_file(name);
        }
        Ok(is_changed)
    }

    /// Answers whether the file has changed.
    fn read_file(&mut self, name: &str) -> bool {
        let path = self.folder.join(name);
        let stamp = stamp(&path).map_err(|error| error.to_string());
        if self.seen.get(name) == Some(&stamp) {
            return false;
        }
        let text =
            stamp.clone().and_then(|_| std::fs::read_to_string(&path).map_err(|error| error.to_string()));
        let seen = text.as_ref().map_err(String::clone).and(stamp);
        if seen.is_err() && self.seen.get(name) == Some(&seen) {
            return false;
        }
        self.files.update(name, text.as_deref().map_err(String::clone));
        self.seen.insert(name.to_owned(), seen);
        true
    }

    /// Hidden files and editors' copies do not count.
    fn counts(&self, name: &str) -> bool {
        let is_manifest = |name: &str| {
            let extension = Path::new(name).extension().and_then(|e| e.to_str());
            !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
        };
        self.only.as_ref().map_or_else(|| is_manifest(name), |only| only == name)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(io::Error::other("not a file"));
    }
    Ok((meta.ino(), meta.len(), meta.modified().ok()))
}

/// Who is writing which file, by what inotify tells.
#[derive(Debug, Default)]
struct Writers {
    since: BTreeMap<String, Instant>,
}

impl Writers {
    /// Returns how soon the folder is to be looked at, if at all.
    fn note(&mut self, event: &notify::Event) -> Option<Duration> {
        let names =
            event.paths.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned());
        let soon = Some(Duration::from_millis(SETTLE_MILLIS));
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                self.done(names);
                soon
            }
            // A link is complete from the start; of other files the end of writing will be told.
            EventKind::Modify(ModifyKind::Data(_)) | EventKind::Create(CreateKind::File) => {
                if event.paths.iter().any(|p| p.is_symlink()) {
                    return soon;
                }
                for name in names {
                    self.since.entry(name).or_insert_with(Instant::now);
                }
                None
            }
            EventKind::Access(_) => None,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                self.done(names);
                Some(Duration::from_millis(REMOVE_SETTLE_MILLIS))
            }
            EventKind::Modify(ModifyKind::Name(_)) => {
                self.done(names);
                soon
            }
            EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => soon,
        }
    }

    fn done(&mut self, names: impl Iterator<Item = String>) {
        for name in names {
            self.since.remove(&name);
        }
    }

    fn writing(&mut self) -> BTreeSet<String> {
        self.since.retain(|_, since| since.elapsed() < Duration::from_secs(WRITING_SECS));
        self.since.keys().cloned().collect()
    }
}

/// Watches until nobody listens any more. Fails only if there is nothing to watch at the start.
pub async fn run(
    path: PathBuf,
    service_cidrs: Vec<IpNet>,
    events: mpsc::Sender<Batch>,
    ledger: &Ledger,
) -> anyhow::Result<()> {
    let mut manifests = Manifests::open(&path)?.with_service_cidrs(service_cidrs);
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut watcher = watch(&manifests.folder, &tell);
    let mut writers = Writers::default();
    loop {
        if let Some(batch) = manifests.scan(&writers.writing()) {
            ledger.set(Origin::Source, manifests.report().to_vec());
            if !batch.is_empty() && events.send(batch).await.is_err() {
                return Ok(());
            }
        }
        if watcher.is_none() || manifests.folder_problem.is_some() {
            watcher = watch(&manifests.folder, &tell);
        }
        let rescan = if writers.since.is_empty() { RESCAN_SECS } else { WRITING_SECS };
        let deadline = Instant::now() + Duration::from_secs(rescan);
        // What comes before the settling time is over belongs to the same edit.
        let mut until = deadline;
        loop {
            tokio::select! {
                () = events.closed() => return Ok(()),
                () = tokio::time::sleep_until(until) => break,
                event = told.recv() => {
                    let soon = match event {
                        Some(Ok(event)) => writers.note(&event),
                        // The watch itself has a problem: see for ourselves.
                        Some(Err(_)) | None => Some(Duration::from_millis(SETTLE_MILLIS)),
                    };
                    until = soon.map_or(until, |soon| until.min(Instant::now() + soon));
                }
            }
        }
    }
}

/// Without inotify the folder is only looked at from time to time.
fn watch(
    folder: &Path,
    tell: &mpsc::UnboundedSender<notify::Result<notify::Event>>,
) -> Option<RecommendedWatcher> {
    let tell = tell.clone();
    let result = notify::recommended_watcher(move |event| drop(tell.send(event))).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    result
        .inspect_err(
            |error| tracing::warn!(folder = %folder.display(), %error, "cannot watch; looking every 5 s"),
        )
        .ok()
}

#[cfg(test)]
mod tests;
