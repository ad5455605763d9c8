//! Waits until a daemon serves the published objects, according to its status file and the maps.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Deserialize;

use super::node::Daemon;
use super::population::Population;
use super::tables::Tables;

const LIMIT: Duration = Duration::from_secs(300);
/// If the status says that all is in force and no further Service was served for this long, none will be.
const STANDSTILL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);
/// Services to look up before the status is read again.
const AT_ONCE: u32 = 4_000;

/// When a daemon was ready.
#[derive(Debug)]
pub struct InForce {
    /// The status said so, and the maps served everything if they ever did.
    pub at: Instant,
    /// When every Service was seen in the maps; `None` if some never were.
    pub served: Option<Instant>,
}

/// Fields of the status file.
#[derive(Deserialize)]
struct Status {
    synced: bool,
    generation: u64,
    pending_since_unix_ms: Option<u64>,
}

/// Reads the status file when it has changed.
struct StatusFile {
    path: PathBuf,
    seen: Option<(u64, i64, i64)>,
}

impl StatusFile {
    /// The current status, if it changed and is readable.
    fn news(&mut self) -> Option<Status> {
        let metadata = fs::metadata(&self.path).ok()?;
        let seen = Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
        if seen == self.seen {
            return None;
        }
        self.seen = seen;
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }
}

/// Waits until the status says that everything is in force and the maps serve it.
pub fn wait(daemon: &mut Daemon, status: PathBuf, pins: &Path, population: &Population) -> Result<InForce> {
    let mut file = StatusFile { path: status, seen: None };
    let (mut next, mut progress) = (0, Instant::now());
    let (mut in_force, mut served) = (None, None);
    loop {
        if let Some(status) = file.news() {
            let is_now = status.synced && status.generation > 0 && status.pending_since_unix_ms.is_none();
            in_force = is_now.then(|| in_force.unwrap_or_else(Instant::now));
        }
        if served.is_none()
            && let Ok(tables) = Tables::open(pins)
        {
            let end = population.column.services.min(next + AT_ONCE);
            let first = next;
            next = (first..end).find(|service| !tables.serve(population, *service)).unwrap_or(end);
            if next > first {
                progress = Instant::now();
            }
            served = (next == population.column.services).then(Instant::now);
        }
        match (in_force, served) {
            (Some(status), Some(tables)) => return Ok(InForce { at: status.max(tables), served }),
            (Some(at), None) if progress.max(at).elapsed() > STANDSTILL => {
                return Ok(InForce { at, served: None });
            }
            _ => {}
        }
        daemon.check()?;
        if daemon.started.elapsed() > LIMIT {
            bail!("not in force after {LIMIT:?}, {next} Services are served\n{}", daemon.last_lines());
        }
        if next == population.column.services || next % AT_ONCE != 0 || in_force.is_none() {
            thread::park_timeout(LOOK);
        }
    }
}

/// Splits Services into those that the maps serve and those that they do not. A Service that svc has to refuse is in
/// neither part.
pub fn split_served(pins: &Path, population: &Population) -> Result<(Vec<u32>, Vec<u32>)> {
    let tables = Tables::open(pins)?;
    let expected = population.services().filter(|service| !population.is_refused(*service));
    Ok(expected.partition(|service| tables.serve(population, *service)))
}
