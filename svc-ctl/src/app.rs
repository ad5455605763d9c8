//! Wires everything together and ends it in order: the only file that may name every other module.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::args::Source;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::dataplane::bpf::BpfStore;
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::{Lock, Pins, lock_file};
use crate::dataplane::usage::{Usage, usage};
use crate::dataplane::{affinity, flows};
use crate::model::node::NodeAddresses;
use crate::node::cgroup;
use crate::node::watch::Observed;
use crate::observe::health::Servers;
use crate::observe::warnings;
use crate::reconcile::{self, Inputs, Options, ReconcileStatus};
use crate::source;

/// How often expired flows are removed and counters are told.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);
/// Batches of events that a source may be ahead.
const EVENTS_AHEAD: usize = 64;
/// Warnings that may wait for the API server.
const WARNINGS_AHEAD: usize = 64;

/// Runs until SIGTERM or SIGINT. What is in the kernel stays there and goes on working.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::select! {
        ended = serve(config) => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; the kernel goes on with what it has");
    Ok(())
}

/// Ends only by an error; drop it to stop.
async fn serve(config: Config) -> anyhow::Result<()> {
    // What is not ours comes first, so that a failed start leaves nothing in the kernel.
    let source = open_source(&config).await?;
    std::fs::create_dir_all(&config.run_dir)
        .with_context(|| format!("--run-dir: making {}", config.run_dir.display()))?;
    let _only_one = lock(&config.run_dir)?;
    let cgroup = cgroup::open(config.cgroup.as_deref(), &config.run_dir)?;

    // Who asks is answered while programs are loaded: alive, not ready.
    let (status_out, mut status) = watch::channel(ReconcileStatus::default());
    let (warn, to_publish) = mpsc::channel(WARNINGS_AHEAD);
    let mut servers = Servers::start(config.healthz, config.metrics, &status, warn.clone());
    tokio::spawn(warnings::run(status.clone(), warn));
    let mut daemon = Daemon::start(config.clone(), cgroup)?;
    let (seen, mut interfaces) = watch::channel::<Option<Observed>>(None);
    let mut watcher = tokio::spawn(crate::node::watch::run(seen));
    interfaces.changed().await.context("the netlink watcher ended before it began")?;
    let (addresses_out, addresses) = watch::channel(NodeAddresses::default());
    observe(&mut daemon, &mut interfaces, &addresses_out);
    daemon.prune();

    let (events_out, events) = mpsc::channel(EVENTS_AHEAD);
    let mut source = tokio::spawn(source.run(events_out, to_publish));
    let options = Options {
        node_name: config.node_name.clone(),
        settings: config.settings.clone(),
        ..Options::default()
    };
    let store = BpfStore(Maps::open(daemon.pins())?);
    let mut reconciler =
        tokio::spawn(reconcile::run(Inputs { events, addresses }, store, options, status_out));
    let mut sweeps = JoinSet::new();
    let mut sweep = interval(SWEEP_PERIOD);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tracing::info!(node = config.node_name, pin_dir = %config.pin_dir.display(), "serving");
    loop {
        tokio::select! {
            Ok(()) = interfaces.changed() => observe(&mut daemon, &mut interfaces, &addresses_out),
            Ok(()) = status.changed() => daemon.tell(&status.borrow_and_update()),
            problems = servers.problems() => daemon.tell_listeners(&problems?),
            _ = sweep.tick() => {
                daemon.sweep();
                // A table that takes longer than the period is not read twice at once.
                if sweeps.is_empty() {
                    let pins = daemon.pins().clone();
                    sweeps.spawn_blocking(move || sweep_tables(&pins));
                }
            }
            Some(ended) = sweeps.join_next() => match ended.map_err(anyhow::Error::from).flatten() {
                Ok(usage) => daemon.used(&usage),
                Err(err) => tracing::warn!("removing expired flows: {err:#}"),
            },
            ended = &mut watcher => return Err(why(ended, "the netlink watcher")),
            ended = &mut source => return Err(why(ended, "the source")),
            ended = &mut reconciler => {
                let text = ended.err().map_or_else(String::new, |err| format!(": {err}"));
                anyhow::bail!("the reconcile loop ended{text}");
            }
        }
    }
}

/// Removes what has expired; answers how full the tables are then.
fn sweep_tables(pins: &Pins) -> anyhow::Result<Vec<Usage>> {
    flows::sweep(pins)?;
    affinity::sweep(pins)?;
    usage(pins)
}

fn why(ended: Result<anyhow::Result<()>, tokio::task::JoinError>, who: &str) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("{who} ended"),
        Ok(Err(err)) => err.context(format!("{who} ended")),
        Err(err) => anyhow::Error::from(err).context(format!("{who} ended")),
    }
}

/// Two daemons with one run directory would tell of themselves in one file. That they do not share pins is seen to by
/// the lock of the pin directory, which [`Daemon`] holds.
fn lock(run_dir: &Path) -> anyhow::Result<Lock> {
    let file = File::options().create(true).truncate(false).write(true).open(run_dir.join("lock"));
    lock_file(file, || format!("--run-dir {}", run_dir.display()))
}

async fn open_source(config: &Config) -> anyhow::Result<source::Opened> {
    match &config.source {
        Source::Manifests(path) => source::Opened::manifests(path),
        Source::Kubernetes => {
            let options = source::kubernetes::Options {
                kubeconfig: config.kubeconfig.clone(),
                master: config.master.clone(),
                service_account: source::kubernetes::SERVICE_ACCOUNT.into(),
                node_name: config.node_name.clone(),
                streaming_lists: true,
                page_size: 0,
            };
            source::Opened::kubernetes(options).await
        }
    }
}

fn observe(
    daemon: &mut Daemon,
    interfaces: &mut watch::Receiver<Option<Observed>>,
    addresses: &watch::Sender<NodeAddresses>,
) {
    let Some(observed) = interfaces.borrow_and_update().clone() else { return };
    let now = daemon.observe(&observed);
    addresses.send_if_modified(|current| {
        let is_new = *current != now;
        *current = now;
        is_new
    });
}
