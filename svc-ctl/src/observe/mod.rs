//! Reports of the daemon: status, health, metrics, complaints.

pub mod ask;
pub mod health;
pub mod inspect;
pub mod ledger;
pub mod listeners;
pub mod metrics;
pub mod nearly_full;
pub mod run_file;
pub mod socket;
pub mod status;
pub mod status_writer;
mod summary;
pub mod wanted;
pub mod warnings;

use std::path::PathBuf;

use jiff::Timestamp;
use svc_common::abi::TABLES_ABI;
use tokio::sync::watch;

use self::health::ports::{self, HealthPorts};
use self::health::{HealthSettings, Servers};
use self::inspect::Inspected;
use self::ledger::Ledger;
use self::listeners::Listeners;
use self::metrics::Metrics;
use self::metrics::followed::Followed;
use self::metrics::requests::ApiRequests;
use self::socket::SocketData;
use self::status::StatusFile;
use self::status_writer::StatusInputs;
use crate::config::ConfigurationInForce;
use crate::dns::counts::DnsCounts;
use crate::lb::bgp::report::PeerCounts;
use crate::lb::report::Count;
use crate::lb::usage::PoolsUse;
use crate::model::world::World;
use crate::parts::Parts;
use crate::plan::settings::Settings;
use crate::programs::HooksStatus;
use crate::reconcile::{InForce, Progress, Served, unix_ms};
use crate::sweeper::SweepReport;

/// Settings of the observers.
#[derive(Clone, Debug)]
pub struct ObserveSettings {
    pub node: String,
    /// The source of Services, as `--source` spells it.
    pub source: String,
    pub run_dir: PathBuf,
    pub health: HealthSettings,
    /// Folder of the pinned maps.
    pub pin_dir: PathBuf,
    /// Maximum number of service ports with metrics of their own.
    pub most_service_metrics: usize,
    /// Number of SNAT ports per destination.
    pub snat_ports: u16,
    /// The kernel measures how long the programs run.
    pub measures_programs: bool,
}

/// Values that the observers read. Each may be empty at the start.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub worlds: watch::Receiver<World>,
    pub progress: watch::Receiver<Progress>,
    pub in_force: watch::Receiver<InForce>,
    pub served: watch::Receiver<Served>,
    pub hooks: watch::Receiver<HooksStatus>,
    pub sweeps: watch::Receiver<SweepReport>,
    pub load_balancer: watch::Receiver<Count>,
    pub peers: watch::Receiver<PeerCounts>,
    pub pools_use: watch::Receiver<PoolsUse>,
    /// `None` in a cluster without `--dns`.
    pub dns: Option<DnsCounts>,
    /// Requests to the API server.
    pub api: ApiRequests,
    pub configuration: watch::Receiver<ConfigurationInForce>,
    /// The plan's, which a changed configuration file may change.
    pub settings: watch::Receiver<Settings>,
}

/// Starts all observers, which stop when `parts` is dropped. Must run in a tokio runtime.
pub fn start(
    settings: &ObserveSettings,
    inputs: Inputs,
    ledger: &Ledger,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    let Inputs { worlds, progress, in_force, served, hooks, sweeps, load_balancer, api, .. } = inputs;
    let (configuration, plan) = (inputs.configuration, inputs.settings);
    let followed = Followed::new(unix_ms());
    let sources = metrics::Sources {
        progress: progress.clone(),
        in_force: in_force.clone(),
        hooks: hooks.clone(),
        sweeps: sweeps.clone(),
        complaints: ledger.subscribe(),
        load_balancer,
        peers: inputs.peers,
        pools_use: inputs.pools_use,
        dns: inputs.dns,
        api,
        pin_dir: settings.pin_dir.clone(),
        most_services: settings.most_service_metrics,
        snat_ports: settings.snat_ports,
        measures_programs: settings.measures_programs,
    };
    let inspected =
        Inspected { metrics: Metrics::new(sources, &followed), configuration, start: Timestamp::now() };
    let listeners = Listeners::new(ledger.clone());
    let (publish, health_ports) = watch::channel(HealthPorts::default());
    let servers = Servers::start(
        &settings.health,
        progress.clone(),
        &hooks,
        health_ports,
        ledger,
        listeners.clone(),
        inspected,
    )?;
    let identity = StatusFile {
        node: settings.node.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: TABLES_ABI,
        source: settings.source.clone(),
        ..StatusFile::default()
    };
    let complaints = ledger.subscribe();
    let inputs = StatusInputs {
        progress: progress.clone(),
        hooks,
        sweeps: sweeps.clone(),
        complaints: complaints.clone(),
    };
    let run_dir = &settings.run_dir;
    parts.spawn("health checks", servers.ended());
    parts.spawn("metrics of Services", followed.run(served));
    parts.spawn("the list of health check node ports", ports::run(plan, worlds.clone(), publish));
    parts.spawn("the status file", status_writer::run(identity, inputs, run_dir.clone()));
    let asked = SocketData { complaints, in_force, worlds: worlds.clone() };
    parts.spawn("the status socket", socket::run(run_dir.clone(), asked, listeners));
    let node = settings.node.clone();
    parts.spawn("the watch over full tables", nearly_full::run(node, progress, sweeps, ledger.clone()));
    parts.spawn("warnings about Services", warnings::run(worlds, ledger.clone()));
    Ok(())
}

#[cfg(test)]
mod tests;
