//! Reads the counters.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use svc_common::abi::{ServicePortId, names};

use super::state::{Counts, Reading, Runs};
use crate::dataplane::pins::Pins;
use crate::dataplane::service_counters::ServiceMap;
use crate::dataplane::usage::usage;
use crate::dataplane::{flows, run_time};
use crate::observe::ask;
use crate::sweeper::counters;

/// Live flows by Service are counted in tables of at most so many entries.
const MOST_FLOWS: u64 = 100_000;

pub struct Reader {
    pin_dir: PathBuf,
    run_dir: PathBuf,
    start: Instant,
    /// The kernel measures run times while this is open. `None`: it may not be asked to.
    _measures: Option<OwnedFd>,
}

impl Reader {
    pub fn new(pin_dir: &Path, run_dir: &Path) -> anyhow::Result<Self> {
        Pins::existing(pin_dir)?;
        let measures = run_time::measure().ok();
        Ok(Self {
            pin_dir: pin_dir.to_owned(),
            run_dir: run_dir.to_owned(),
            start: Instant::now(),
            _measures: measures,
        })
    }

    pub fn read(&mut self) -> anyhow::Result<Reading> {
        let pins = Pins::existing(&self.pin_dir)?;
        let named = ask::services(&self.run_dir);
        let is_unnamed = named.is_err();
        let named = named.unwrap_or_default();
        let map = ServiceMap::open(&pins)?;
        let counts = |id: &u32| {
            let found = map.get(ServicePortId(*id));
            Counts { flows: found.flows, packets: found.packets, octets: found.bytes }
        };
        let services = named.iter().map(|(id, name)| (name.clone(), counts(id))).collect();
        let runs =
            |(name, run): (String, run_time::RunTime)| (name, Runs { count: run.count, time: run.time });
        Ok(Reading {
            at: self.start.elapsed(),
            services,
            live: live(&pins, &named)?,
            counters: counters(&pins)?,
            programs: run_time::read(&self.pin_dir)?.into_iter().map(runs).collect(),
            is_unnamed,
        })
    }
}

/// Forward records by service port.
fn live(pins: &Pins, named: &BTreeMap<u32, String>) -> anyhow::Result<Option<BTreeMap<String, u64>>> {
    let used = usage(pins, names::FLOWS4, "")?.used + usage(pins, names::FLOWS6, "")?.used;
    if used > MOST_FLOWS {
        return Ok(None);
    }
    let mut live = BTreeMap::new();
    for flow in
        flows::list(pins)?.iter().filter(|flow| flow.direction == "forward" && flow.age <= flow.lifetime)
    {
        if let Some(name) = named.get(&flow.service) {
            *live.entry(name.clone()).or_default() += 1;
        }
    }
    Ok(Some(live))
}
