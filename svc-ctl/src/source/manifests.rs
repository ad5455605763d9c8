//! A folder (or one file) of ordinary Kubernetes YAML, watched: edits are events.
//!
//! Services without ClusterIPs and node ports get them as from an API server (`assign`), and load-balancer addresses if
//! there are pools (`load_balancers`). Names must be written. Pods are picked by Services' selectors and Endpoints are
//! mirrored as Kubernetes' controllers do it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::event::Batch;
use crate::lb::settings::LoadBalancerSettings;
use crate::lb::usage::PoolsUse;
use crate::model::complaint::{Complaint, Kind};
use document::Object;
use files::Files;
use given::GivenFile;
use health::Health;
use name_servers::NameServers;
use world::World;

mod assign;
pub mod document;
pub mod files;
pub mod follow;
pub mod given;
pub mod health;
pub mod lines;
pub mod load_balancers;
pub mod mirror;
pub mod name_servers;
pub mod pods;
pub mod rules;
mod unknown;
pub mod validate;
pub mod whole;
pub mod world;
mod writers;

/// Inode, size and time of change of a file: if they differ, the file is read again.
type Stamp = (u64, u64, Option<SystemTime>);

/// The files that count, the objects that were sent of them, and their faults.
#[derive(Debug)]
pub struct Manifests {
    folder: PathBuf,
    /// Only this file of the folder.
    only: Option<String>,
    /// Range of the Services' ClusterIPs. Without a range Services must write them.
    service_cidrs: Vec<IpNet>,
    /// Pools of the Services' load-balancer addresses.
    pub(super) load_balancer: LoadBalancerSettings,
    pub(super) pools_use: PoolsUse,
    /// The last stamp of each file, or the reason why it cannot be read.
    seen: BTreeMap<String, Result<Stamp, String>>,
    files: Files,
    /// Addresses and ports that Services were given, now and before.
    given: GivenFile,
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
            load_balancer: LoadBalancerSettings::default(),
            pools_use: PoolsUse::default(),
            seen: BTreeMap::new(),
            files: Files::default(),
            given: GivenFile::default(),
            folder_problem: None,
            sent: None,
            report: Vec::new(),
        })
    }

    /// Checks Services by the rules of an API server with these ranges, and gives addresses from them.
    #[must_use]
    pub fn with_service_cidrs(self, service_cidrs: Vec<IpNet>) -> Self {
        Self { files: Files::with_rules(service_cidrs.clone()), service_cidrs, ..self }
    }

    /// Also takes the good documents of bad files, to check all objects together.
    #[must_use]
    pub fn with_bad_files(self) -> Self {
        Self { files: self.files.with_bad_files(), ..self }
    }

    /// Stores the addresses and node ports of Services in a file of this folder.
    #[must_use]
    pub fn with_state_dir(self, dir: &Path) -> Self {
        Self { given: GivenFile::open(dir), ..self }
    }

    /// Reads the changed files, except those that are being written. Returns whether anything is new.
    pub fn read(&mut self, writing: &BTreeSet<String>) -> bool {
        let (is_changed, problem) = match self.read_folder(writing) {
            Ok(is_changed) => (is_changed, None),
            Err(error) => (false, Some(format!("{error}; its last good state stays in force"))),
        };
        let is_new = is_changed || self.sent.is_none() || self.folder_problem != problem;
        self.folder_problem = problem;
        is_new
    }

    /// The changes since the last call, as far as health allows: everything at first.
    pub fn batch(&mut self, health: &Health) -> Batch {
        let (objects, mut report) = self.files.objects();
        let mut world = World::with_health(&objects, health);
        report.extend(world.assign(&self.service_cidrs, &mut self.given.given));
        let (complaints, usage) =
            world.assign_load_balancers(&self.service_cidrs, &self.load_balancer, &mut self.given.given);
        report.extend(complaints);
        self.pools_use = usage;
        report.extend(self.given.save());
        let folder = self.folder.display().to_string();
        report.extend(self.folder_problem.iter().map(|p| Complaint::new(Kind::Source, &folder, "", p)));
        let batch = match &self.sent {
            None => world.list(),
            Some(before) => world.changes_since(before),
        };
        (self.sent, self.report) = (Some(world), report);
        batch
    }

    /// The files, with the place of each object and the faults.
    pub const fn files(&self) -> &Files {
        &self.files
    }

    /// The contents of each file that can be read.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let text =
            |name: &str| Some((name.to_owned(), std::fs::read_to_string(self.folder.join(name)).ok()?));
        self.files.names().filter_map(text).collect()
    }

    /// All nodes that count.
    pub fn nodes(&self) -> Vec<&Node> {
        let (objects, _) = self.files.objects();
        objects.into_iter().filter_map(Object::as_node).collect()
    }

    /// All Pods that count.
    pub fn pods(&self) -> Vec<&Pod> {
        let (objects, _) = self.files.objects();
        objects.into_iter().filter_map(Object::as_pod).collect()
    }

    /// Publishes where this node is asked to answer DNS.
    fn publish_name_servers(&self, to: &NameServers) {
        self.sent.iter().for_each(|world| to.update(world));
    }

    /// The complaints about the files.
    pub fn report(&self) -> &[Complaint] {
        &self.report
    }

    /// Returns whether any file has changed.
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

    /// Returns whether the file has changed.
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

#[cfg(test)]
mod tests;
