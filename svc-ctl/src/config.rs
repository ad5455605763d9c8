//! Everything that the daemon is told, checked and complete.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cli::args::Source;
use crate::cli::config_file::ConfigFile;
use crate::dns::settings::DnsSettings;
use crate::model::complaint::Complaint;
use crate::node::roles::{PodInterfaces, RoleRules};
use crate::node::snat_ports::SnatPorts;
use crate::observe::inspect::ConfigurationInForce;
use crate::plan::settings::Settings;

/// How XDP is wanted on uplinks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XdpPolicy {
    /// Native on network cards where the driver has it, else none.
    Auto,
    Native,
    Generic,
    Off,
}

/// Whether what is masqueraded goes through the stack, where netfilter's FORWARD and the kernel's own routing have their say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ThroughStack {
    /// Where rules of network policies or the routes of this node ask for it.
    Auto,
    Always,
    Never,
}

/// Everything the daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub source: Source,
    pub kubeconfig: Option<PathBuf>,
    pub master: Option<String>,
    pub node_name: String,
    pub pin_dir: PathBuf,
    pub run_dir: PathBuf,
    /// Without it the node's own is looked for.
    pub cgroup: Option<PathBuf>,
    pub roles: RoleRules,
    /// What the plan is told.
    pub settings: Settings,
    /// Service CIDRs are those that the API server has.
    pub reads_service_cidrs: bool,
    /// Which interfaces are local pods'.
    pub pod_interfaces: PodInterfaces,
    /// DNS, if this node answers it.
    pub dns: Option<DnsSettings>,
    /// Where health is told, and where the mode is.
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub xdp: XdpPolicy,
    pub pod_sockets: bool,
    pub through_stack: ThroughStack,
    /// Where namespaces of pods have names.
    pub netns_dirs: Vec<PathBuf>,
    /// Flow records per family.
    pub flow_table_size: u32,
    /// No table of Services grows beyond so many entries.
    pub max_table_entries: u32,
    /// Source ports for masquerade.
    pub snat_ports: SnatPorts,
    /// Service ports that have metrics of their own, at most.
    pub most_service_metrics: usize,
    /// The kernel measures how long the programs run.
    pub measures_programs: bool,
    /// How much is logged, as kube-proxy counts.
    pub verbosity: u8,
    /// All of it as text.
    pub in_force: ConfigurationInForce,
    /// The configuration file, if there is one, and what of it is not in force.
    pub file: Option<ConfigFile>,
    pub complaints: Vec<Complaint>,
    /// End where an address is taken.
    pub is_hard_fail: bool,
    /// `spec.externalIPs` of Services are served.
    pub serves_external_ips: bool,
}
