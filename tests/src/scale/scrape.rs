//! `/metrics`: the time of a scrape if every service port has its own series, and the metrics of changes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::metrics_page;
use crate::netns::Netns;

const SCRAPES: usize = 20;

/// The longest of some scrapes, and the octets of the last page. Each Service must be on it.
pub fn longest(netns: &Netns, services: usize) -> Result<(Duration, usize)> {
    netns.within(|| {
        let mut longest = Duration::ZERO;
        let mut octets = 0;
        for _ in 0..SCRAPES {
            let started = Instant::now();
            let page = metrics_page::here()?;
            longest = longest.max(started.elapsed());
            octets = page.len();
            let series = page.lines().filter(|line| line.starts_with("svc_service_packets_total{")).count();
            ensure!(series >= services, "the page has {series} of {services} Services");
        }
        Ok((longest, octets))
    })
}

/// Sum and number of the durations of a phase of changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhaseTotal {
    seconds: f64,
    count: f64,
}

impl PhaseTotal {
    /// Of the phases `plan` and `write`, until now.
    pub fn plan_and_write(netns: &Netns) -> Result<[Self; 2]> {
        let page = metrics_page::of(netns)?;
        Ok([Self::on(&page, "plan")?, Self::on(&page, "write")?])
    }

    fn on(page: &str, phase: &str) -> Result<Self> {
        let of = |end: &str| -> Result<f64> {
            let series = format!("svc_programming_phase_duration_seconds_{end}{{phase=\"{phase}\"}} ");
            let line = page.lines().find_map(|line| line.strip_prefix(series.as_str()));
            Ok(line.with_context(|| format!("the page has no {series}"))?.parse()?)
        };
        Ok(Self { seconds: of("sum")?, count: of("count")? })
    }

    /// The mean duration since another time; `None` if there was no change.
    pub fn mean_since(self, before: Self) -> Option<Duration> {
        let count = self.count - before.count;
        (count > 0.0).then(|| Duration::from_secs_f64((self.seconds - before.seconds) / count))
    }
}
