//! Changes of endpoints, and how long each takes until the kernel's map has it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::objects::Objects;
use super::population::Population;
use super::process::Process;
use super::tables::Tables;

/// A change that is not in the map by then is lost.
const LIMIT: Duration = Duration::from_secs(20);
/// Likewise, for many changes at once.
const BURST_LIMIT: Duration = Duration::from_secs(120);
/// Where changes take very long, fewer of them tell as much.
const BUDGET: Duration = Duration::from_secs(90);
const AT_LEAST: usize = 20;
/// What a daemon does after a change is its own affair for so long; then the next one comes.
const REST: Duration = Duration::from_secs(2);
/// A prime, so that changes are spread over all Services.
const STRIDE: usize = 7_919;
/// The daemon may have put another map in this one's place.
const OPEN_AGAIN: Duration = Duration::from_millis(5);

/// Where changes are written to: the slice's number is its Service's.
pub trait ApiServer {
    /// Writes slices. The time is when the first octet of them was about to leave.
    fn write_slices(&self, slices: Vec<(u32, String)>) -> Result<Instant>;
}

pub struct Changes<'a> {
    pub api: &'a dyn ApiServer,
    pub pins: &'a Path,
    pub population: &'a mut Population,
    pub objects: &'a Objects,
    /// The Services that are changed: those that are served.
    pub served: &'a [u32],
    pub process: Process,
}

/// Times of single changes, and the processor's time for each.
#[derive(Debug, Default)]
pub struct Singles {
    pub times: Vec<Duration>,
    pub cpu_per_change: Option<Duration>,
}

impl Singles {
    /// The nth percentile; none where a change was lost: a loss is not mistaken for speed.
    pub fn percentile(&self, nth: usize) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get((times.len() * nth / 100).min(times.len().saturating_sub(1))).copied()
    }
}

impl Changes<'_> {
    /// One change after the other; each begins when the daemon rests. At least one.
    pub fn singles(&mut self, count: usize) -> Result<Singles> {
        if self.served.is_empty() {
            return Ok(Singles::default());
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
                None => return Ok(Singles::default()),
            }
            self.process.await_rest(REST)?;
        }
        let cpu = (self.process.cpu()? - before) / u32::try_from(times.len())?;
        Ok(Singles { times, cpu_per_change: Some(cpu) })
    }

    /// Many changes at once, until the last of them is in the map.
    pub fn burst(&mut self, count: usize) -> Result<Option<Duration>> {
        if self.served.is_empty() {
            return Ok(None);
        }
        let (mut slices, mut expected) = (Vec::new(), Vec::new());
        for nth in 0..count {
            let (service, endpoint, slice) = self.next(nth);
            // Where there are fewer Services than changes, the last change of each counts.
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

    /// Looks without a pause until all of them are in the map; other threads may run in between.
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
