//! Changes endpoints, and measures the time until the kernel's map has each change.

use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::objects::Objects;
use super::population::Population;
use super::process::Process;
use super::tables::Tables;

/// A change that is not in the map by then counts as lost.
const LIMIT: Duration = Duration::from_secs(20);
/// The same for many changes at once.
const BURST_LIMIT: Duration = Duration::from_secs(120);
/// Total time for single changes; slow changes are measured fewer times.
const BUDGET: Duration = Duration::from_secs(90);
const AT_LEAST: usize = 20;
/// Maximum time to wait until the daemon is idle after a change.
const REST: Duration = Duration::from_secs(2);
/// A prime, so that changes are spread over all Services.
const STRIDE: usize = 7_919;
/// Interval between openings of the pin: the daemon may have replaced the map.
const OPEN_AGAIN: Duration = Duration::from_millis(5);

/// Receives changes. A slice's number is its Service's.
pub trait ApiServer {
    /// Writes slices. Returns the time just before the first octet was sent.
    fn write_slices(&self, slices: Vec<(u32, String)>) -> Result<Instant>;
}

pub struct Changes<'a> {
    pub api: &'a dyn ApiServer,
    pub pins: &'a Path,
    pub population: &'a mut Population,
    pub objects: &'a Objects,
    /// The Services to change: those that are served.
    pub served: &'a [u32],
    pub process: Process,
}

/// Times of single changes, and the CPU time of each.
#[derive(Debug, Default)]
pub struct SingleChanges {
    pub times: Vec<Duration>,
    pub cpu_per_change: Option<Duration>,
}

impl SingleChanges {
    /// The nth percentile; `None` if a change was lost, so that a loss does not look fast.
    pub fn percentile(&self, nth: usize) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get((times.len() * nth / 100).min(times.len().saturating_sub(1))).copied()
    }
}

impl Changes<'_> {
    /// One change after the other; each begins when the daemon is idle. At least one.
    pub fn singles(&mut self, count: usize) -> Result<SingleChanges> {
        if self.served.is_empty() {
            return Ok(SingleChanges::default());
        }
        let mut times = Vec::new();
        self.process.await_rest(REST)?;
        let (began, before) = (Instant::now(), self.process.cpu()?);
        for nth in 0..count {
            if nth >= AT_LEAST && began.elapsed() > BUDGET {
                break;
            }
            let (service, endpoint, slice) = self.next(nth);
            let written = self.api.write_slices(vec![(service, slice)])?;
            match self.await_endpoints(written, &[(service, endpoint)], LIMIT)? {
                Some(time) => times.push(time),
                None => return Ok(SingleChanges::default()),
            }
            self.process.await_rest(REST)?;
        }
        let cpu = (self.process.cpu()? - before) / u32::try_from(times.len())?;
        Ok(SingleChanges { times, cpu_per_change: Some(cpu) })
    }

    /// Many changes at once, until the last of them is in the map.
    pub fn burst(&mut self, count: usize) -> Result<Option<Duration>> {
        if self.served.is_empty() {
            return Ok(None);
        }
        let (mut slices, mut expected) = (Vec::new(), Vec::new());
        for nth in 0..count {
            let (service, endpoint, slice) = self.next(nth);
            // With fewer Services than changes, the last change of each counts.
            expected.retain(|(known, _)| *known != service);
            expected.push((service, endpoint));
            slices.push((service, slice));
        }
        self.process.await_rest(REST)?;
        let written = self.api.write_slices(slices)?;
        self.await_endpoints(written, &expected, BURST_LIMIT)
    }

    fn next(&mut self, nth: usize) -> (u32, Ipv4Addr, String) {
        let service = self.served[nth * STRIDE % self.served.len()];
        let endpoint = self.population.replace_endpoint(service);
        (service, endpoint, self.objects.slice4(self.population, service))
    }

    /// Polls without a pause until all of them are in the map; yields to other threads.
    fn await_endpoints(
        &self,
        since: Instant,
        expected: &[(u32, Ipv4Addr)],
        limit: Duration,
    ) -> Result<Option<Duration>> {
        let (mut tables, mut opened) = (Tables::open(self.pins)?, Instant::now());
        let mut rest = expected;
        loop {
            while let Some(((service, endpoint), others)) = rest.split_first() {
                if !tables.have_endpoint(*service, *endpoint) {
                    break;
                }
                rest = others;
            }
            if rest.is_empty() {
                return Ok(Some(since.elapsed()));
            }
            if since.elapsed() > limit {
                return Ok(None);
            }
            if opened.elapsed() > OPEN_AGAIN {
                (tables, opened) = (Tables::open(self.pins)?, Instant::now());
            }
            thread::yield_now();
        }
    }
}
