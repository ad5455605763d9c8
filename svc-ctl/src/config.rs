//! The daemon's configuration, checked and complete.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::Value;
use svc_common::abi::PodSockets;

use crate::dns::settings::DnsSettings;
use crate::lb::settings::LoadBalancerSettings;
use crate::model::complaint::Complaint;
use crate::node::roles::{PodInterfaces, RoleRules};
use crate::node::snat_ports::SnatPorts;
use crate::plan::settings::Settings;
use crate::source::manifests::health::observer::HealthOptions;

/// Source of Services.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    Kubernetes,
    Manifests(PathBuf),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "kubernetes" => Ok(Self::Kubernetes),
            Some(("manifests", path)) if !path.is_empty() => Ok(Self::Manifests(path.into())),
            _ => Err("expected `kubernetes` or `manifests:DIR`".to_owned()),
        }
    }
}

/// XDP policy for uplinks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum XdpPolicy {
    /// Native on network cards whose driver supports it, else none.
    Auto,
    /// By the driver.
    Native,
    /// By the kernel, for drivers without support.
    Generic,
    /// TC programs alone.
    Off,
}

/// Whether masqueraded packets go through the stack, and so through netfilter's FORWARD and the kernel's routing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ThroughStack {
    /// If rules of network policies or the routes of this node require it.
    Auto,
    /// All of them.
    Always,
    /// None of them.
    Never,
}

/// The configuration in force.
#[derive(Clone, Debug, Default)]
pub struct ConfigurationInForce {
    /// As a KubeProxyConfiguration, for `/configz`.
    pub document: Arc<Value>,
    /// Flags and their values, for `/flagz`.
    pub flags: Arc<BTreeMap<String, String>>,
}

/// A configuration file as it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// The contents when it was read.
    pub text: String,
}

/// The daemon's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub source: Source,
    /// End when all that the source lists is in force.
    pub ends_when_in_force: bool,
    /// Folder of the file with the addresses and node ports that Services of manifests were given.
    pub state_dir: Option<PathBuf>,
    /// Method that finds the health of the Pods and nodes in manifests.
    pub health: HealthOptions,
    pub kubeconfig: Option<PathBuf>,
    pub master: Option<String>,
    pub node_name: String,
    pub pin_dir: PathBuf,
    pub run_dir: PathBuf,
    /// `None`: the daemon finds the node's cgroup.
    pub cgroup: Option<PathBuf>,
    pub roles: RoleRules,
    /// Settings of the plan.
    pub settings: Settings,
    /// Service CIDRs are those that the API server has.
    pub reads_service_cidrs: bool,
    /// How local pods' interfaces are recognised.
    pub pod_interfaces: PodInterfaces,
    /// Settings of the DNS server, if this node runs one.
    pub dns: Option<DnsSettings>,
    /// Addresses for health checks and for the proxy mode.
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub xdp: XdpPolicy,
    /// When the socket hooks serve pods.
    pub pod_sockets: PodSockets,
    /// Unknown ports of external addresses are dropped.
    pub drops_unknown_ports: bool,
    pub through_stack: ThroughStack,
    /// Directories with named network namespaces of pods.
    pub netns_dirs: Vec<PathBuf>,
    /// Flow records per family.
    pub flow_table_size: u32,
    /// Upper limit for the entries of each table of Services.
    pub max_table_entries: u32,
    /// Source ports of masqueraded packets.
    pub snat_ports: SnatPorts,
    /// Flows that one CPU may begin in a second; 0: any number.
    pub new_flow_limit: u32,
    /// Maximum number of service ports with metrics of their own.
    pub most_service_metrics: usize,
    /// The kernel measures how long the programs run.
    pub measures_programs: bool,
    /// Log verbosity, as kube-proxy counts.
    pub verbosity: u8,
    /// The configuration in force, as text.
    pub in_force: ConfigurationInForce,
    /// The configuration file, if any, and complaints about fields that are not in force.
    pub file: Option<ConfigFile>,
    pub complaints: Vec<Complaint>,
    /// Pools of load-balancer addresses, and how those are announced.
    pub load_balancer: LoadBalancerSettings,
    /// Exit if an address is in use.
    pub is_hard_fail: bool,
    /// `spec.externalIPs` of Services are served.
    pub serves_external_ips: bool,
}

/// The parts that follow a changing configuration file.
pub struct Reload {
    /// The configuration as typed arguments and the file say it now.
    pub read: Box<dyn Fn() -> anyhow::Result<Config> + Send>,
    /// Sets how much is logged, as `--v` counts.
    pub log_level: Box<dyn Fn(u8) + Send>,
}
