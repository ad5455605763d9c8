//! Run time of the programs, which the kernel measures while statistics are on.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use aya::programs::ProgramInfo;
use aya::sys::{Stats, enable_stats};

use super::pins::Pins;

/// Runs of a program since it was loaded, as far as they were measured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RunTime {
    pub count: u64,
    pub time: Duration,
}

/// Makes the kernel measure every program of the machine until the returned value is dropped.
pub fn measure() -> anyhow::Result<OwnedFd> {
    enable_stats(Stats::RunTime).context("bpf_enable_stats (Linux 5.8, CAP_SYS_ADMIN)")
}

/// The pinned programs by name. Those of several builds that are pinned under one name are summed up.
pub fn read(pin_dir: &Path) -> anyhow::Result<BTreeMap<String, RunTime>> {
    let folder = Pins::existing(pin_dir)?.programs();
    let mut all: BTreeMap<String, RunTime> = BTreeMap::new();
    for build in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        for pin in std::fs::read_dir(build?.path())?.flatten() {
            // Other pins beside the programs are of maps.
            let Ok(info) = ProgramInfo::from_pin(pin.path()) else { continue };
            let run = all.entry(pin.file_name().to_string_lossy().into_owned()).or_default();
            run.count += info.run_count();
            run.time += info.run_time();
        }
    }
    Ok(all)
}
