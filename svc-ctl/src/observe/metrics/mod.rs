//! The metrics page: kube-proxy's names where they have a meaning here, `svc_*` for the rest ([docs/metrics.md]).
//!
//! A request for the page reads every metric from the published values of the daemon. The loop, the programs' thread
//! and the sweeper never wait for a scrape.
//!
//! [docs/metrics.md]: ../../../../docs/metrics.md

mod bgp;
mod datapath;
mod dns;
#[cfg(test)]
mod docs;
pub mod followed;
mod hooks;
mod kube_proxy;
mod load_balancer;
mod page;
mod process;
mod programming;
pub mod requests;
mod run_time;
mod services;
pub mod slis;
mod state;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use self::followed::Followed;
use self::page::Page;
use self::requests::{ApiRequests, HealthRequests};
use self::run_time::{PinnedPrograms, ProgramRuns};
use self::services::{PinnedCounters, ServiceCounts};
use super::ledger::Complaints;
use crate::dns::counts::DnsCounts;
use crate::lb::bgp::report::PeerCounts;
use crate::lb::report::Count;
use crate::lb::usage::PoolsUse;
use crate::programs::HooksStatus;
use crate::reconcile::{InForce, Progress};
use crate::sweeper::SweepReport;

/// The value of `Content-Type` of an OpenMetrics page.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The value of `Content-Type` of a page in Prometheus' own format.
pub const PROMETHEUS_TEXT: &str = prometheus_text::CONTENT_TYPE;

/// The sources of the page.
#[derive(Clone, Debug)]
pub struct Sources {
    pub progress: watch::Receiver<Progress>,
    pub in_force: watch::Receiver<InForce>,
    pub hooks: watch::Receiver<HooksStatus>,
    pub sweeps: watch::Receiver<SweepReport>,
    pub complaints: watch::Receiver<Complaints>,
    pub load_balancer: watch::Receiver<Count>,
    pub peers: watch::Receiver<PeerCounts>,
    pub pools_use: watch::Receiver<PoolsUse>,
    /// `None` in a cluster without `--dns`.
    pub dns: Option<DnsCounts>,
    /// Requests to the API server.
    pub api: ApiRequests,
    /// Folder of the pins of the programs' counters.
    pub pin_dir: PathBuf,
    /// Service ports that have series of their own, at most.
    pub most_services: usize,
    /// Source ports that the masquerade has for one destination.
    pub snat_ports: u16,
    /// The kernel measures how long the programs run.
    pub measures_programs: bool,
}

/// The registry of all metrics. A clone has the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub health: HealthRequests,
}

impl Metrics {
    /// Registers all metrics. Runs in the tokio runtime whose tasks are counted.
    pub fn new(sources: Sources, followed: &Followed) -> Self {
        let counters = PinnedCounters::new(sources.pin_dir.clone());
        let programs =
            PinnedPrograms { pin_dir: sources.pin_dir.clone(), is_measured: sources.measures_programs };
        Self::over(sources, followed, Box::new(counters), Box::new(programs), process::own())
    }

    /// No thread has published anything.
    pub fn empty() -> Self {
        let sources = Sources {
            progress: watch::channel(Progress::default()).1,
            in_force: watch::channel(InForce::default()).1,
            hooks: watch::channel(HooksStatus::default()).1,
            sweeps: watch::channel(SweepReport::default()).1,
            complaints: watch::channel(Complaints::default()).1,
            load_balancer: watch::channel(Count::default()).1,
            peers: watch::channel(PeerCounts::new()).1,
            pools_use: watch::channel(PoolsUse::default()).1,
            dns: None,
            api: ApiRequests::default(),
            pin_dir: PathBuf::new(),
            most_services: 0,
            snat_ports: 0,
            measures_programs: false,
        };
        Self::new(sources, &Followed::new(0))
    }

    fn over(
        sources: Sources,
        followed: &Followed,
        counters: Box<dyn ServiceCounts>,
        programs: Box<dyn ProgramRuns>,
        process: process::Reader,
    ) -> Self {
        let health = HealthRequests::default();
        let mut registry = Registry::default();
        let Sources { progress, in_force, hooks, sweeps, complaints, load_balancer, api, .. } = sources;
        let parts: [Box<dyn Part>; 13] = [
            Box::new(kube_proxy::KubeProxy::new(progress.clone(), followed.clone(), health.clone())),
            Box::new(api),
            Box::new(process),
            Box::new(state::State { progress: progress.clone(), sweeps: sweeps.clone(), complaints }),
            Box::new(programming::Phases { progress: progress.clone(), followed: followed.clone() }),
            Box::new(tables::Tables { progress, sweeps: sweeps.clone() }),
            Box::new(datapath::Datapath { sweeps: sweeps.clone(), snat_ports: sources.snat_ports }),
            Box::new(hooks::Hooks { hooks }),
            Box::new(run_time::Programs(programs)),
            Box::new(load_balancer::LoadBalancer { count: load_balancer, pools: sources.pools_use }),
            Box::new(bgp::Bgp { peers: sources.peers }),
            Box::new(dns::Dns(sources.dns)),
            Box::new(services::Services { in_force, sweeps, counters, most: sources.most_services }),
        ];
        for part in parts {
            registry.register_collector(Box::new(PartCollector(part)));
        }
        Self { registry: Arc::new(registry), health }
    }

    /// The page in Prometheus' own format. Takes system calls: not to be called where a task must not wait.
    pub fn prometheus_text(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        prometheus_text::encode(&mut page, &self.registry)?;
        Ok(page)
    }

    /// The page in the format OpenMetrics.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// A few metrics that have one source.
trait Part: fmt::Debug + Send + Sync + 'static {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result;
}

#[derive(Debug)]
struct PartCollector(Box<dyn Part>);

impl Collector for PartCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.write(&mut Page::new(encoder))
    }
}
