//! The numbers of a show in the format of `--report`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::agent::Report;

#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) requests: u64,
    pub(super) failures: u64,
    /// Requests to servers that had just died: no failures of svc.
    pub(super) losses: u64,
    pub(super) backends: BTreeMap<String, u64>,
    pub(super) phases: Vec<Phase>,
    #[serde(skip)]
    pub(super) first_failure: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Phase {
    name: String,
    requests: u64,
    failures: u64,
}

impl Phase {
    pub(super) fn new(name: &str, report: &Report) -> Self {
        Self { name: name.into(), requests: report.ok + report.failed, failures: report.failed }
    }
}

impl Summary {
    pub(super) fn new(total: &Report, phases: Vec<Phase>, losses: u64) -> Self {
        Self {
            requests: total.ok + total.failed,
            failures: total.failed.saturating_sub(losses),
            losses,
            backends: total.by_server.clone(),
            phases,
            first_failure: total.first_failure.clone(),
        }
    }
}
