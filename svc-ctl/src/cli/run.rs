//! `svc-ctl run`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{ArgMatches, FromArgMatches as _};
use svc_common::abi::PodSockets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, reload};

use super::args::{
    Cli, Command, DetectLocal, LogFormat, PodSocketsChoice, ProbesChoice, RunArgs, ServiceCidrs,
    StandaloneArgs, Switch, UnknownPorts,
};
use super::config_file;
use super::effective::effective;
use super::{command, flags};
use crate::app;
use crate::config::{Config, ConfigFile, ConfigurationInForce, Reload, Source};
use crate::dns::settings::DnsSettings;
use crate::lb::unused;
use crate::model::complaint::Complaint;
use crate::node::roles::{PodInterfaces, RoleRules};
use crate::node::snat_ports::{EphemeralPorts, SnatPorts, choose};
use crate::plan::entry::Masquerade;
use crate::plan::prefixes::{Cidrs, LocalPods};
use crate::plan::settings::Settings;
use crate::programs::default_flow_table;
use crate::source::manifests::health::heartbeat::HeartbeatOptions;
use crate::source::manifests::health::observer::{HealthOptions, Probes};

pub fn main(typed: &RunArgs, matches: &ArgMatches, arguments: Vec<OsString>) -> anyhow::Result<()> {
    let invocation = Invocation { arguments, file: typed.config.clone() };
    let (args, config) = invocation.read(matches)?;
    let log_level = log_to_stderr(&args);
    for flag in flags::typed_in_vain(matches) {
        tracing::warn!(flag = flag.name, why = flag.why, "ignoring a flag of kube-proxy");
    }
    if let Some(score) = args.oom_score_adj
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        tracing::warn!(score, %error, "--oom-score-adj could not be set");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let read = Box::new(move || invocation.config());
    let ended = runtime.block_on(app::run(config, Reload { read, log_level }));
    // Do not wait for a scrape that is still reading a table.
    runtime.shutdown_background();
    ended
}

/// The typed arguments. The configuration file that they name may change later.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub arguments: Vec<OsString>,
    /// `--config`.
    pub file: Option<PathBuf>,
}

impl Invocation {
    /// The configuration as the file says it now.
    pub fn config(&self) -> anyhow::Result<Config> {
        let matches = command().try_get_matches_from(&self.arguments)?;
        Ok(self.read(&matches)?.1)
    }

    fn read(&self, matches: &ArgMatches) -> anyhow::Result<(Box<RunArgs>, Config)> {
        let cli = command();
        let (file, from_file) = match &self.file {
            None => (None, None),
            Some(path) => {
                let (file, explained) = config_file::read(path, &cli)?;
                let complaints = config_file::complaints(&file, &explained);
                let more = config_file::arguments(&explained, &cli, matches);
                let all = self.arguments.iter().cloned().chain(more.into_iter().map(OsString::from));
                (Some((file, complaints)), Some(cli.clone().try_get_matches_from(all)?))
            }
        };
        let all = from_file.as_ref().unwrap_or(matches);
        let Command::Run(args) = Cli::from_arg_matches(all)?.command else {
            anyhow::bail!("not the command `run`")
        };
        let config = config(&args, flags::values(&cli, all), file)?;
        Ok((args, config))
    }
}

fn log_to_stderr(args: &RunArgs) -> Box<dyn Fn(u8) + Send> {
    let (filter, handle) = reload::Layer::new(log_filter(args.verbosity));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match args.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Box::new(move |verbosity| drop(handle.reload(log_filter(verbosity))))
}

/// RUST_LOG goes before the flag.
fn log_filter(verbosity: u8) -> EnvFilter {
    let level = match verbosity {
        // hickory-server logs every question as `info`.
        0..=3 => "info,hickory_server=warn",
        4..=5 => "debug",
        _ => "trace",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("info,svc_ctl={level}")))
}

/// The detected local pods. A mode that needs another flag names it in the error.
fn local_pods(args: &RunArgs) -> anyhow::Result<LocalPods> {
    let needs = |flag: &str, is_empty: bool| {
        anyhow::ensure!(!is_empty, "--detect-local-mode needs {flag}");
        Ok(())
    };
    Ok(match args.detect_local_mode {
        DetectLocal::Interface => LocalPods::ByInterface,
        DetectLocal::BridgeInterface => {
            needs("--pod-bridge-interface", args.pod_bridge_interface.is_empty())?;
            LocalPods::ByInterface
        }
        DetectLocal::InterfaceNamePrefix => {
            needs("--pod-interface-name-prefix", args.pod_interface_name_prefix.is_empty())?;
            LocalPods::ByInterface
        }
        DetectLocal::ClusterCidr => {
            needs("--cluster-cidr", args.cluster_cidr.0.is_empty())?;
            LocalPods::Within(args.cluster_cidr.clone())
        }
        DetectLocal::NodeCidr => LocalPods::OfNode,
        DetectLocal::None => LocalPods::Unknown,
    })
}

fn probes(args: &StandaloneArgs) -> anyhow::Result<Probes> {
    Ok(match args.probes {
        ProbesChoice::On => Probes::EachNode,
        ProbesChoice::Off => Probes::Off,
        ProbesChoice::One => {
            let needs =
                "--probes one needs --node-heartbeat PORT: nodes exchange the readiness of Pods there";
            anyhow::ensure!(args.node_heartbeat.is_some(), needs);
            Probes::OneNode
        }
    })
}

/// The configuration from the flags.
fn config(
    args: &RunArgs,
    flags: BTreeMap<String, String>,
    file: Option<(ConfigFile, Vec<Complaint>)>,
) -> anyhow::Result<Config> {
    let (file, complaints) = file.unzip();
    let mut complaints = complaints.unwrap_or_default();
    let (mut load_balancer, problems) = file.as_ref().map(config_file::load_balancer).unwrap_or_default();
    complaints.extend(problems);
    if let Some(class) = &args.load_balancer_class {
        load_balancer.class.clone_from(class);
    }
    if let Some(switch) = args.default_load_balancer {
        load_balancer.serves_without_class = switch == Switch::On;
    }
    let service_cidrs = match &args.service_cidr {
        ServiceCidrs::Given(cidrs) => cidrs.clone(),
        ServiceCidrs::OfCluster => {
            let reads = args.source == Source::Kubernetes;
            anyhow::ensure!(reads, "--service-cidr cluster needs --source kubernetes");
            Cidrs::default()
        }
    };
    let node_name = match &args.hostname_override {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname().context("gethostname")?.to_string_lossy().to_lowercase(),
    };
    Ok(Config {
        source: args.source.clone(),
        ends_when_in_force: args.once,
        state_dir: args.standalone.state_dir.clone(),
        health: HealthOptions {
            probes: probes(&args.standalone)?,
            heartbeat: args
                .standalone
                .node_heartbeat
                .map(|port| HeartbeatOptions { node: node_name.clone(), port }),
        },
        // An environment variable may be set and empty.
        kubeconfig: args.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty()),
        master: args.master.clone().filter(|url| !url.is_empty()),
        pin_dir: args.pins.pin_dir.clone(),
        run_dir: args.run_dir.run_dir.clone(),
        cgroup: args.cgroup.clone(),
        roles: RoleRules {
            uplinks: args.uplink.clone(),
            excluded: args.exclude_interface.clone(),
            pods: args.pod_interface.clone(),
        },
        settings: Settings {
            node_port_addresses: args.nodeport_addresses.clone(),
            masquerade: Masquerade { all: args.masquerade_all, to_local: args.masquerade_local_backends },
            local_pods: local_pods(args)?,
            service_cidrs,
            pools: unused::ranges(&load_balancer.pools, &BTreeSet::new()),
            selection: args.selection,
        },
        reads_service_cidrs: args.service_cidr == ServiceCidrs::OfCluster,
        pod_interfaces: match args.detect_local_mode {
            DetectLocal::BridgeInterface => PodInterfaces::PortsOf(args.pod_bridge_interface.clone()),
            DetectLocal::InterfaceNamePrefix => {
                PodInterfaces::Beginning(args.pod_interface_name_prefix.clone())
            }
            _ => PodInterfaces::ByRole,
        },
        // A Service of the manifests may ask for it at any time.
        dns: (!args.dns.is_empty() || matches!(args.source, Source::Manifests(_))).then(|| DnsSettings {
            listen: args.dns.iter().map(|address| address.0).collect(),
            domain: args.dns_domain.clone(),
            upstream: args.dns_upstream.clone(),
        }),
        healthz: args.healthz_bind_address.0,
        metrics: args.metrics_bind_address.0,
        xdp: args.xdp,
        pod_sockets: match args.pod_sockets {
            PodSocketsChoice::Auto => PodSockets::WITHOUT_DAEMON,
            PodSocketsChoice::On => PodSockets::ON,
            PodSocketsChoice::Off => PodSockets::OFF,
        },
        drops_unknown_ports: args.unknown_external_ports == UnknownPorts::Drop,
        through_stack: args.masquerade_through_stack,
        netns_dirs: args.netns_dir.clone(),
        max_table_entries: args.max_table_entries,
        flow_table_size: args.flow_table_size.map_or_else(default_flow_table, |size| size.0),
        snat_ports: match args.snat_ports {
            Some(range) => SnatPorts { first: range.first, count: range.count },
            None => choose(&EphemeralPorts::of_host()),
        },
        new_flow_limit: args.new_flow_limit,
        most_service_metrics: args.metrics_service_ports,
        measures_programs: args.bpf_stats,
        verbosity: args.verbosity,
        in_force: ConfigurationInForce {
            document: Arc::new(effective(args, &node_name)),
            flags: Arc::new(flags),
        },
        file,
        complaints,
        load_balancer,
        is_hard_fail: args.bind_address_hard_fail,
        serves_external_ips: args.feature_gates.allows_external_ips,
        node_name,
    })
}
