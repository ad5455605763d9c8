//! One run of the suite, stored in `tests/conformance/PROXY.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::report::{SpecOutcome, SpecOutcomes};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    pub proxy: String,
    /// Version of the suite and of the cluster.
    pub kubernetes: String,
    /// Nodes, CNI plugin, strictness, as in `svc-cluster status`.
    pub cluster: String,
    pub kernel: String,
    /// Of svc, with `-dirty` if files had changed.
    #[serde(default)]
    pub commit: Option<String>,
    #[serde(default)]
    pub date: Option<String>,
    /// The machine's load average over the last 15 minutes of the run.
    #[serde(default)]
    pub load: Option<String>,
    pub outcomes: SpecOutcomes,
}

impl Record {
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    pub fn outcome(&self, spec: &str) -> &SpecOutcome {
        self.outcomes.get(spec).unwrap_or(&SpecOutcome::NotRun)
    }

    pub fn passed(&self) -> usize {
        self.outcomes.values().filter(|outcome| **outcome == SpecOutcome::Passed).count()
    }

    pub fn failed(&self) -> usize {
        self.outcomes.values().filter(|outcome| matches!(outcome, SpecOutcome::Failed(_))).count()
    }
}
