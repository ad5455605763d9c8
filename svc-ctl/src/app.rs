//! Starts every part of the daemon, connects them, and stops them in order: the only file that may import every other
//! module. It lists the threads and their channels.

mod reload;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use ipnet::IpNet;
use svc_common::abi::PodSockets;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Config, Reload, Source};
use crate::dataplane::pins::{Lock, lock_file};
use crate::dataplane::run_time;
use crate::dns::counts::DnsCounts;
use crate::lb::bgp::report::PeerCounts;
use crate::lb::settings::LoadBalancerSettings;
use crate::lb::usage::PoolsUse;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::node::cgroup;
use crate::node::watch::Observed;
use crate::observe::health::HealthSettings;
use crate::observe::metrics::requests::ApiRequests;
use crate::observe::{self, ObserveSettings};
use crate::parts::Parts;
use crate::plan::prefixes::Cidrs;
use crate::plan::settings::Settings;
use crate::programs::{self, HooksStatus, Started};
use crate::reconcile::{self, Inputs, LoopSettings, Outputs, Progress};
use crate::source::manifests::name_servers::NameServers;
use crate::sweeper::{SweepReport, SweepSettings, Sweeper};
use crate::{dns, lb, memory, node, source};

/// Batches of events that may be queued for the planner.
const EVENTS_AHEAD: usize = 4;

/// Runs until SIGTERM or SIGINT. The kernel keeps its programs and tables and continues to serve.
pub async fn run(config: Config, reload: Reload) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::select! {
        ended = serve(config, reload) => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; the kernel's programs and tables stay in place");
    Ok(())
}

/// Ends by an error, or with `--once` when everything is in force; drop it to stop.
async fn serve(config: Config, reload: Reload) -> anyhow::Result<()> {
    // Everything that may fail outside of svc comes first, so that a failed start leaves nothing in the kernel.
    let api = ApiRequests::default();
    let (ranges_out, ranges) = watch::channel(Vec::new());
    let (pools_out, pools) = watch::channel(config.load_balancer.clone());
    let (members_out, members) = watch::channel(lb::Members::new());
    let (usage, pools_use) = watch::channel(PoolsUse::default());
    let (presence_out, presence) = watch::channel(None);
    let giver = lb::AddressGiver { settings: pools.clone(), members: members_out, usage, presence };
    let (name_servers, asked_for) = watch::channel(BTreeSet::new());
    let name_servers = NameServers { node: config.node_name.as_str().into(), addresses: name_servers };
    let source = open_source(&config, &api, ranges_out, giver, name_servers).await?;
    std::fs::create_dir_all(&config.run_dir)
        .with_context(|| format!("--run-dir: making {}", config.run_dir.display()))?;
    let _only_one = lock(&config.run_dir)?;
    let cgroup = cgroup::open(config.cgroup.as_deref(), &config.run_dir)?;

    let outputs = Outputs::default();
    let ledger = outputs.ledger.clone();
    ledger.set(Origin::Configuration, config.complaints.clone());
    let in_force = outputs.in_force.subscribe();
    let (hooks_out, hooks) = watch::channel(HooksStatus::default());
    let (settings_out, settings) = watch::channel(config.settings.clone());
    let (configuration_out, configuration) = watch::channel(config.in_force.clone());
    let (sweeps_out, sweeps) = watch::channel(SweepReport::default());
    let in_force_once = in_force_once(config.ends_when_in_force, outputs.progress.subscribe(), hooks.clone());
    let (attached, hooks_of_announcer) = (hooks.clone(), hooks.clone());
    let for_neighbors = sweeps.clone();
    let (lb_counts_out, lb_counts) = watch::channel(lb::report::Count::default());
    let (peer_counts_out, peer_counts) = watch::channel(PeerCounts::new());
    let dns_counts = DnsCounts::default();
    // Health is answered while programs load: alive, not ready.
    let inputs = observe::Inputs {
        worlds: outputs.world.subscribe(),
        progress: outputs.progress.subscribe(),
        in_force: in_force.clone(),
        served: outputs.served.subscribe(),
        hooks,
        sweeps,
        load_balancer: lb_counts,
        peers: peer_counts,
        pools_use,
        dns: config.dns.is_some().then(|| dns_counts.clone()),
        api,
        configuration,
        settings: settings.clone(),
    };
    let _measured = config.measures_programs.then(run_time::measure).transpose();
    let _measured = _measured.inspect_err(|error| {
        let reason = format!("{error:#}: how long programs run is not measured");
        ledger.set(Origin::RunTime, vec![Complaint::new(Kind::Host, "--bpf-stats", "", reason)]);
    });
    let memory = memory::run(outputs.progress.subscribe());
    let mut parts = Parts::default();
    observe::start(&observe_settings(&config), inputs, &ledger, &mut parts)?;
    if config.reads_service_cidrs {
        parts.spawn("following ServiceCIDRs", take_ranges(ranges, settings_out.clone()));
    }
    let unused = drop_unused(pools.clone(), members.clone(), settings_out.clone());
    parts.spawn("following the pools of load-balancer addresses", unused);
    let reloader = reload::Reloader {
        config: config.clone(),
        reload,
        settings: settings_out,
        in_force: configuration_out,
        load_balancer: pools_out,
        ledger: ledger.clone(),
    };
    parts.spawn("following the configuration file", reloader.run());
    parts.spawn("giving memory back", memory);
    let (seen, interfaces) = watch::channel::<Option<Observed>>(None);
    parts.spawn("the netlink watcher", node::watch::run(seen));
    let revalidate =
        node::neighbors::run(for_neighbors, |report: &SweepReport| report.live.next_hops.clone());
    parts.spawn("revalidating neighbors", revalidate);
    let interfaces_of_announcer = interfaces.clone();
    let (events_out, events) = mpsc::channel(EVENTS_AHEAD);
    let (complaints, source_ledger) = (ledger.subscribe(), ledger.clone());
    parts.spawn("the source", source.run(events_out, complaints, source_ledger));

    let for_programs = (config.clone(), ledger.clone());
    let start = move || programs::start(for_programs.0, cgroup, interfaces, hooks_out, for_programs.1);
    let started = tokio::task::spawn_blocking(start).await.context("starting the programs")??;
    let Started { store, growth, first_swap, addresses, pins, lease, ended: programs_ended } = started;
    if config.pod_sockets == PodSockets::WITHOUT_DAEMON {
        let run = programs::lease::run(lease, attached);
        parts.spawn("renewing the lease", run);
    }
    parts.spawn("the programs' thread", async {
        Err(programs_ended.await.unwrap_or_else(|_| anyhow::anyhow!("it panicked")))
    });
    if let Some(settings) = config.dns.clone() {
        let (worlds, ledger) = (outputs.world.subscribe(), ledger.clone());
        let run = move || dns::server::run(settings, asked_for, worlds, dns_counts, ledger);
        parts.spawn("DNS", on_a_thread("svc-dns", run)?);
    }
    let by_bgp = lb::bgp::announcer::Inputs {
        node: config.node_name.clone(),
        run_dir: config.run_dir.clone(),
        settings: pools.clone(),
        worlds: outputs.world.subscribe(),
        served: outputs.served.subscribe(),
        counts: peer_counts_out,
        ledger: ledger.clone(),
    };
    parts.spawn("announcing load-balancer addresses by BGP", lb::bgp::announcer::run(by_bgp));
    let announced = lb::announcer::Inputs {
        node: config.node_name.clone(),
        run_dir: config.run_dir.clone(),
        pins: pins.clone(),
        settings: pools,
        members,
        served: outputs.served.subscribe(),
        interfaces: interfaces_of_announcer,
        hooks: hooks_of_announcer,
        count: lb_counts_out,
        ledger: ledger.clone(),
        presence: presence_out,
        notices_failures: matches!(config.source, Source::Kubernetes) || config.health.heartbeat.is_some(),
    };
    parts.spawn("announcing load-balancer addresses", lb::announcer::run(announced));
    let loop_settings = LoopSettings {
        node_name: config.node_name.clone(),
        keeps_names: config.dns.is_some(),
        most_entries: config.max_table_entries,
        serves_external_ips: config.serves_external_ips,
    };
    let inputs = Inputs { events, addresses, settings, growth: Some(growth), first_swap };
    let plan = async move {
        reconcile::run(inputs, store, loop_settings, outputs).await;
        Ok(())
    };
    parts.spawn("the planner", on_a_thread("planner", move || plan)?);
    let settings =
        SweepSettings { node: config.node_name.clone(), pins, netns_dirs: config.netns_dirs.clone() };
    let sweeper = Sweeper::start(settings, in_force, sweeps_out, ledger)?;
    parts.spawn("the sweeper", sweeper.ended());
    tracing::info!(node = config.node_name, pin_dir = %config.pin_dir.display(), "serving");
    tokio::select! {
        error = parts.ended() => Err(error),
        () = in_force_once => {
            tracing::info!("everything is in force; ending, as --once says");
            Ok(())
        }
    }
}

/// With `--once`, ends when the listed objects are in the tables and every hook has its program. Otherwise it never
/// ends.
async fn in_force_once(
    is_wanted: bool,
    mut progress: watch::Receiver<Progress>,
    mut hooks: watch::Receiver<HooksStatus>,
) {
    let is_in_force = |p: &Progress| p.synced && p.generation > 0 && p.pending_since_unix_ms.is_none();
    let both = async {
        progress.wait_for(is_in_force).await.is_ok() && hooks.wait_for(|h| h.is_attached).await.is_ok()
    };
    if !is_wanted || !both.await {
        std::future::pending::<()>().await;
    }
}

/// The ranges that the API server has are those of the plan.
async fn take_ranges(
    mut ranges: watch::Receiver<Vec<IpNet>>,
    settings: watch::Sender<Settings>,
) -> anyhow::Result<()> {
    loop {
        ranges.changed().await?;
        let service_cidrs = Cidrs(ranges.borrow_and_update().clone());
        tracing::info!(?service_cidrs, "the API server names the ranges of ClusterIPs");
        settings.send_modify(|settings| settings.service_cidrs = service_cidrs);
    }
}

/// Packets from outside to addresses of these pools that no Service has are dropped; never those to a node's own address.
async fn drop_unused(
    mut pools: watch::Receiver<LoadBalancerSettings>,
    mut members: watch::Receiver<lb::Members>,
    settings: watch::Sender<Settings>,
) -> anyhow::Result<()> {
    loop {
        let of_nodes =
            members.borrow_and_update().values().flat_map(|member| member.addresses.clone()).collect();
        let ranges = lb::unused::ranges(&pools.borrow_and_update().pools, &of_nodes);
        settings
            .send_if_modified(|settings| std::mem::replace(&mut settings.pools, ranges.clone()) != ranges);
        tokio::select! {
            changed = pools.changed() => changed?,
            changed = members.changed() => changed?,
        }
    }
}

/// Runs a future on a thread of its own. The receiver gets the result, or is closed if the thread panics.
fn on_a_thread<F: Future<Output = anyhow::Result<()>>>(
    name: &'static str,
    make: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .with_context(|| format!("making the runtime of the {name}"))?;
    let (ends, ended) = oneshot::channel::<anyhow::Result<()>>();
    let work = move || {
        // The sender is dropped if the thread panics.
        let _ = ends.send(runtime.block_on(make()));
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| format!("starting the {name}"))?;
    Ok(async move { ended.await.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))) })
}

fn observe_settings(config: &Config) -> ObserveSettings {
    ObserveSettings {
        node: config.node_name.clone(),
        source: match &config.source {
            Source::Kubernetes => "kubernetes".to_owned(),
            Source::Manifests(path) => format!("manifests:{}", path.display()),
        },
        run_dir: config.run_dir.clone(),
        health: HealthSettings {
            healthz: config.healthz,
            metrics: config.metrics,
            is_hard_fail: config.is_hard_fail,
        },
        pin_dir: config.pin_dir.clone(),
        most_service_metrics: config.most_service_metrics,
        snat_ports: config.snat_ports.count,
        measures_programs: config.measures_programs,
    }
}

/// Locks the run directory: two daemons would write one status file. The lock of the pin directory, held by the
/// programs' thread, keeps two daemons from sharing pins.
fn lock(run_dir: &Path) -> anyhow::Result<Lock> {
    let file = File::options().create(true).truncate(false).write(true).open(run_dir.join("lock"));
    lock_file(file, || format!("--run-dir {}", run_dir.display()))
}

async fn open_source(
    config: &Config,
    api: &ApiRequests,
    ranges: watch::Sender<Vec<IpNet>>,
    giver: lb::AddressGiver,
    name_servers: NameServers,
) -> anyhow::Result<source::CheckedSource> {
    match &config.source {
        Source::Manifests(path) => {
            let options = source::manifests::follow::Options {
                service_cidrs: config.settings.service_cidrs.0.clone(),
                state_dir: config.state_dir.clone(),
                health: config.health.clone(),
                load_balancer: Some(giver),
                name_servers: Some(name_servers),
            };
            source::CheckedSource::manifests(path, options)
        }
        Source::Kubernetes => {
            let options = source::kubernetes::Options {
                kubeconfig: config.kubeconfig.clone(),
                master: config.master.clone(),
                service_account: source::kubernetes::SERVICE_ACCOUNT.into(),
                node_name: config.node_name.clone(),
                names: config.dns.is_some(),
                streaming_lists: true,
                page_size: 0,
                service_cidrs: config.reads_service_cidrs.then_some(ranges),
                load_balancer: Some(giver),
                known_service_cidrs: config.settings.service_cidrs.0.clone(),
                requests: api.clone(),
            };
            source::CheckedSource::kubernetes(options).await
        }
    }
}
