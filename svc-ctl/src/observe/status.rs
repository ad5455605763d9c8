//! The status file: small, replaced by the daemon at changes, read by `svc-ctl status` and tests. [`super::ask`] gets
//! the data that grow with the number of Services.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::run_file;

/// Name of the file in the run directory.
const FILE: &str = "status.json";

/// Contents of `svc-ctl status`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct StatusFile {
    pub node: String,
    pub pid: u32,
    pub version: String,
    pub abi: u32,
    pub source: String,
    /// Every source has listed its objects.
    pub synced: bool,
    /// Counts the states of the sources that came completely into force.
    pub generation: u64,
    pub pending_since_unix_ms: Option<u64>,
    pub last_error: Option<String>,
    pub failures: u64,
    pub drifts: u64,
    /// Services, or parts of them, without room in a table.
    pub unserved: u64,
    pub interfaces: Vec<InterfaceStatus>,
    pub cgroup: String,
    /// Whether masqueraded packets go through the stack, and why.
    #[serde(default)]
    pub masquerade: String,
    pub tables: Vec<TableStatus>,
    /// Nonzero counters, by label.
    pub counters: BTreeMap<String, u64>,
    /// UDP flows removed because their endpoint was gone, since the start.
    pub udp_flows_removed: u64,
    /// Connected UDP sockets ended because their endpoint was gone, since the start.
    #[serde(default)]
    pub udp_sockets_ended: u64,
    /// Sockets that the kernel refused to end.
    #[serde(default)]
    pub udp_sockets_left: u64,
    /// Number of detached or unpinned things that were attached or pinned again, since the start.
    #[serde(default)]
    pub reattached: u64,
    pub complaints: ComplaintsStatus,
}

/// Summary of complaints. `svc-ctl status --complaints` shows all of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ComplaintsStatus {
    pub total: u64,
    /// Number of complaints of each kind.
    pub by_kind: BTreeMap<String, u64>,
    /// The first complaints, the node's before those of Services.
    pub first: Vec<ComplaintStatus>,
}

/// A complaint in files and at sockets.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ComplaintStatus {
    pub object: String,
    pub field: String,
    pub reason: String,
    pub kind: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct InterfaceStatus {
    pub name: String,
    pub index: u32,
    pub role: String,
    pub reason: String,
    pub hooks: Vec<String>,
    pub errors: Vec<String>,
    /// Milliseconds from the event about the interface to the attachment of its programs.
    pub attach_ms: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TableStatus {
    pub table: String,
    pub used: u64,
    pub capacity: u64,
}

impl StatusFile {
    /// Replaces the file atomically.
    pub fn write(&self, run_dir: &Path) -> anyhow::Result<()> {
        run_file::replace(&run_dir.join(FILE), &serde_json::to_vec_pretty(self)?)
    }

    pub fn read(run_dir: &Path) -> anyhow::Result<Self> {
        let path = run_dir.join(FILE);
        let text = std::fs::read(&path).with_context(|| {
            format!("reading {}: has `svc-ctl run` been started with this --run-dir?", path.display())
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a status file", path.display()))
    }
}
