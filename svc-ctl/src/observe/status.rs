//! The status file: small, replaced by the daemon when something in it changes, read by `svc-ctl status` and by tests. What
//! grows with the number of Services is asked for by [`super::ask`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Name of the file in the run directory.
const FILE: &str = "status.json";

/// Everything that `svc-ctl status` says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct StatusFile {
    pub node: String,
    pub pid: u32,
    pub version: String,
    pub abi: u32,
    pub source: String,
    /// Every source has said all it knows.
    pub synced: bool,
    /// Counts the states of the sources that are completely in force in the kernel.
    pub generation: u64,
    pub pending_since_unix_ms: Option<u64>,
    pub last_error: Option<String>,
    pub failures: u64,
    pub drifts: u64,
    /// Services, or parts of them, for which a table has no room.
    pub unserved: u64,
    pub interfaces: Vec<InterfaceStatus>,
    pub cgroup: String,
    /// Which way what is masqueraded takes, and why.
    #[serde(default)]
    pub masquerade: String,
    pub tables: Vec<TableStatus>,
    /// By label; those that are zero are left out.
    pub counters: BTreeMap<String, u64>,
    /// UDP flows that were ended because their endpoint was gone, since the start.
    pub udp_flows_removed: u64,
    /// Connected UDP sockets that were ended because their endpoint was gone, since the start.
    #[serde(default)]
    pub udp_sockets_ended: u64,
    /// Those that should have ended and that the kernel would not end.
    #[serde(default)]
    pub udp_sockets_left: u64,
    /// Times that something was found detached or unpinned and was attached or pinned anew, since the start.
    #[serde(default)]
    pub reattached: u64,
    pub complaints: ComplaintsStatus,
}

/// What an operator should know, summed up. All complaints: `svc-ctl status --complaints`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ComplaintsStatus {
    pub total: u64,
    /// How many of each kind.
    pub by_kind: BTreeMap<String, u64>,
    /// The first of them, those of the node before those of Services.
    pub first: Vec<ComplaintStatus>,
}

/// One complaint as files and sockets carry it.
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
    /// Milliseconds from hearing of the interface to its programs being attached.
    pub attach_ms: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TableStatus {
    pub table: String,
    pub used: u64,
    pub capacity: u64,
}

impl StatusFile {
    /// Replaces the file in one step.
    pub fn write(&self, run_dir: &Path) -> anyhow::Result<()> {
        let (path, fresh) = (run_dir.join(FILE), run_dir.join(format!(".{FILE}.{}", self.pid)));
        std::fs::write(&fresh, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("writing {}", fresh.display()))?;
        std::fs::rename(&fresh, &path).with_context(|| format!("replacing {}", path.display()))
    }

    pub fn read(run_dir: &Path) -> anyhow::Result<Self> {
        let path = run_dir.join(FILE);
        let text = std::fs::read(&path).with_context(|| {
            format!("reading {}: has `svc-ctl run` been started with this --run-dir?", path.display())
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a status file", path.display()))
    }
}
