//! The cost of the programs: how often each ran, and how long. The kernel measures it only on request (`--bpf-stats`),
//! because it costs every program of the machine some nanoseconds each time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Part;
use super::page::{Page, label};
use crate::dataplane::run_time::{self, RunTime};

/// Source of the programs' statistics.
pub trait ProgramRuns: fmt::Debug + Send + Sync {
    /// By name. Empty where nothing is measured.
    fn read(&self) -> BTreeMap<String, RunTime>;
}

/// Pinned programs of this machine, if they are measured.
#[derive(Debug)]
pub struct PinnedPrograms {
    pub pin_dir: PathBuf,
    pub is_measured: bool,
}

impl ProgramRuns for PinnedPrograms {
    fn read(&self) -> BTreeMap<String, RunTime> {
        match self.is_measured {
            true => run_time::read(&self.pin_dir).unwrap_or_default(),
            false => BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
pub struct Programs(pub Box<dyn ProgramRuns>);

impl Part for Programs {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.0.read();
        page.counters(
            "svc_program_runs",
            "Times that a program ran while --bpf-stats was on; no series without that flag.",
            all.iter().map(|(name, run)| (label("program", name.as_str()), run.count)),
        )?;
        page.fraction_counters(
            "svc_program_run_seconds",
            "Time that a program ran while --bpf-stats was on; divided by svc_program_runs_total the cost of a packet or call.",
            all.iter().map(|(name, run)| (label("program", name.as_str()), run.time.as_secs_f64())),
        )
    }
}
