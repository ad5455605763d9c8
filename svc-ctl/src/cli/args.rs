//! The arguments of the command line.

pub mod lb;
mod look;
mod standalone;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::lb::LbArgs;
pub use self::look::{GetArgs, Sort, SysdumpArgs, TopArgs, WhyArgs};
pub use self::standalone::{ApplyArgs, ManifestRules, ProbesChoice, StandaloneArgs, ValidateArgs};
use crate::config::{Source, ThroughStack, XdpPolicy};
use crate::dns::settings::{Domain, ListenAddress, Upstreams};
use crate::model::service::Selection;
use crate::plan::node_ports::NodePortAddresses;
use crate::plan::prefixes::Cidrs;
use crate::programs::FlowTableSize;

use super::filter::Filter;
pub use super::values::{FeatureGates, PortRange, ServiceCidrs};

/// Kubernetes Services in the kernel: the node daemon and its tools.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve this node: watch Services and endpoints, keep the kernel's tables and programs.
    Run(Box<RunArgs>),
    /// Show the attached programs, the generation in force, how full the tables are, and what was refused.
    Status(StatusArgs),
    /// Lists what the kernel's tables hold now, whether or not the daemon runs.
    Get(GetArgs),
    /// Explains the verdict on a packet and names the rule behind each step, by a dry run of the serving program.
    /// Changes nothing. Exits with 0 if the packet is forwarded, 3 if it is refused, 4 if it is dropped, 5 if it is not
    /// for a Service.
    Why(WhyArgs),
    /// Shows Services by new flows, live flows and octets, drops by reason, and programs by run time, live.
    Top(TopArgs),
    /// Writes all that a maintainer asks for into one archive: status, tables, programs, links, interfaces, rules. No secrets.
    Sysdump(SysdumpArgs),
    /// Checks the requirements of svc on this node and names obstacles, before the start or beside the daemon. Exits
    /// with 1 if a check fails.
    Check(CheckArgs),
    /// Configuration files of kube-proxy.
    Config(ConfigArgs),
    /// Checks a folder of manifests, or a file, without serving it. Exits with 1 if something is wrong, and names file
    /// and line.
    Validate(ValidateArgs),
    /// Puts a file into the folder of manifests, at once and whole, if the folder is good with it. Exits with 1 if it is not.
    Apply(ApplyArgs),
    /// Load-balancer addresses: their Services, the node that answers for each, since when and why.
    Lb(LbArgs),
    /// Removes every trace: programs, links, maps, pins. Established translated connections end.
    Cleanup(CleanupArgs),
    /// Prints a script that completes the command line in a shell.
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Writes the manual pages into a folder, one for each command.
    Man {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// Where the pinned maps and links are.
#[derive(Args, Clone, Debug)]
pub struct PinDir {
    /// Directory on a bpffs for maps and links; one per node.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/svc", env = "SVC_PIN_DIR")]
    pub pin_dir: PathBuf,
}

/// The place where the daemon publishes its status.
#[derive(Args, Clone, Debug)]
pub struct RunDir {
    /// Directory for the status file of the daemon.
    #[arg(long, value_name = "DIR", default_value = "/run/svc", env = "SVC_RUN_DIR")]
    pub run_dir: PathBuf,
}

#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub pins: PinDir,
    #[command(flatten)]
    pub run_dir: RunDir,
    /// As for `run`; without it and without `--master` the API server is asked by the pod's service account, if there is one.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// As for `run`.
    #[arg(long, value_name = "URL", env = "SVC_MASTER")]
    pub master: Option<String>,
    /// As for `run`.
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// As for `run`.
    #[arg(long, value_name = "NAME")]
    pub uplink: Vec<String>,
    /// As for `run`.
    #[arg(long, value_name = "NAME")]
    pub exclude_interface: Vec<String>,
    /// As for `run`.
    #[arg(long, value_name = "NAME")]
    pub pod_interface: Vec<String>,
    /// Also asks svc on every node, at `/readyz`, whether it serves; the API server names the nodes.
    #[arg(long)]
    pub all_nodes: bool,
    /// The port of `--healthz-bind-address` on every node.
    #[arg(long, value_name = "PORT", default_value_t = 10_256, requires = "all_nodes")]
    pub healthz_port: u16,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Explain how svc treats each field of a file: a KubeProxyConfiguration, or kubeadm's ConfigMap that contains one.
    Explain {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// Configuration file: a KubeProxyConfiguration, and in another document an SvcConfiguration with flags of svc.
    /// Flags and the environment have precedence; `svc-ctl config explain FILE` shows the effect of each field. A
    /// changed file is in force at once where that is possible; settings that need a restart are named.
    #[arg(long, value_name = "FILE", env = "SVC_CONFIG")]
    pub config: Option<PathBuf>,
    /// Lines of the log as text or as JSON.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// How much is logged, as kube-proxy counts: 0 to 3 is info, 4 and 5 debug, more is trace. RUST_LOG has precedence.
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    pub verbosity: u8,
    /// Where Services come from: `kubernetes`, or `manifests:DIR` (a folder or file of Kubernetes YAML, watched).
    #[arg(long, value_name = "SOURCE", default_value = "kubernetes")]
    pub source: Source,
    #[command(flatten)]
    pub standalone: StandaloneArgs,
    /// End when everything that the source lists is in force for the first time; the kernel goes on serving. For
    /// scripts.
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = ArgAction::Set,
        hide_possible_values = true
    )]
    pub once: bool,
    /// Kubeconfig for `--source kubernetes`; without it the pod's service account is used.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server, instead of the one in the kubeconfig or of the Service `kubernetes`, which svc itself
    /// serves. Empty counts as not given.
    #[arg(long, value_name = "URL", env = "SVC_MASTER")]
    pub master: Option<String>,
    /// This node's name; without it the host's name in lower case.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub hostname_override: Option<String>,
    #[command(flatten)]
    pub pins: PinDir,
    #[command(flatten)]
    pub run_dir: RunDir,
    /// cgroup v2 directory whose processes get socket load balancing: the node's own root. Without it the mount that
    /// shows most of the hierarchy is taken; where there is none, one is made in the run directory.
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Interface towards clients and other nodes (`eth0`, or `eni*`); wins over `--pod-interface`. Without it an uplink
    /// is recognised by its kind, addresses and routes; `svc-ctl status` shows the role of each interface.
    #[arg(long, value_name = "NAME")]
    pub uplink: Vec<String>,
    /// Interface to leave alone.
    #[arg(long, value_name = "NAME")]
    pub exclude_interface: Vec<String>,
    /// Host end of pods' links (`cni7`, or `eni*`). Without it a pair that leads to another network namespace is
    /// taken for one, unless it has the node's address or the default route.
    #[arg(long, value_name = "NAME")]
    pub pod_interface: Vec<String>,
    /// Addresses that accept NodePorts, separated by commas: CIDRs, `primary` (those of the Node object), `all` (every one but
    /// loopback), `localhost` (127.0.0.1 and ::1, for processes of the node alone). Without it all.
    #[arg(long, value_name = "CIDRS", default_value = "", hide_default_value = true)]
    pub nodeport_addresses: NodePortAddresses,
    /// How pods of this node are recognised: their packets are not masqueraded towards a ClusterIP, and with
    /// `externalTrafficPolicy: Local` it reaches every endpoint. `interface`: by the roles of interfaces.
    #[arg(long, value_enum, value_name = "MODE", default_value = "interface")]
    pub detect_local_mode: DetectLocal,
    /// Addresses of the cluster's pods, for `--detect-local-mode cluster-cidr`: CIDRs separated by commas.
    #[arg(long, value_name = "CIDRS", default_value = "", hide_default_value = true)]
    pub cluster_cidr: Cidrs,
    /// The bridge of the pods, for `--detect-local-mode bridge-interface`.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub pod_bridge_interface: String,
    /// Prefix of the names of pods' interfaces, for `--detect-local-mode interface-name-prefix`.
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub pod_interface_name_prefix: String,
    /// Masquerade all clients of ClusterIPs, pods too.
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = ArgAction::Set,
        hide_possible_values = true
    )]
    pub masquerade_all: bool,
    /// Masquerade also packets to backends of this node, as kube-proxy does; without it these backends see the client's
    /// address.
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = ArgAction::Set,
        hide_possible_values = true
    )]
    pub masquerade_local_backends: bool,
    /// Path of masqueraded packets: through the node's network stack, so that FORWARD rules see the client and its
    /// backend, or past it. `auto`: through it where network policies or other rules that drop are found in FORWARD,
    /// a rule routes by marks, or an IPv4 route has a smaller MTU than its interface, and for IPv4 datagrams that are
    /// larger than the MTU of their next hop.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub masquerade_through_stack: ThroughStack,
    /// CIDRs in which packets to unallocated addresses are dropped; without it such packets are left alone. `cluster`:
    /// the CIDRs of the API server's ServiceCIDR objects (Kubernetes 1.33). With `--source manifests:DIR` a Service
    /// without a ClusterIP gets one of them, the same on every node.
    #[arg(long, value_name = "CIDRS|cluster", default_value = "", hide_default_value = true)]
    pub service_cidr: ServiceCidrs,
    /// `spec.loadBalancerClass` of the Services that get addresses of pools. By default that of the configuration file, or
    /// svc/lb.
    #[arg(long, value_name = "NAME")]
    pub load_balancer_class: Option<String>,
    /// Whether Services without a class get addresses of pools too. By default as the configuration file says, else on.
    #[arg(long, value_enum, value_name = "on|off")]
    pub default_load_balancer: Option<Switch>,
    /// Verdict for packets to a port of an external or load-balancer address that no Service has. `pass`: they are
    /// left alone, as by kube-proxy; if a router sends the address here, they circle between router and node.
    #[arg(long, value_enum, value_name = "VERDICT", default_value = "pass")]
    pub unknown_external_ports: UnknownPorts,
    /// How backends are chosen for Services without the annotation `svc/selection`: `maglev` (every node the same for
    /// the same client) or `random` (by a hash of addresses and ports). By default Maglev for clients from outside,
    /// random for others.
    #[arg(long, value_name = "WAY")]
    pub selection: Option<Selection>,
    /// Answers DNS for Services at this address of this host, by UDP and TCP; may be given again. Port 53 where none is given.
    #[arg(long, value_name = "IP[:PORT]", value_delimiter = ',')]
    pub dns: Vec<ListenAddress>,
    /// Domain of the cluster: the Service `web` of the namespace `shop` is `web.shop.svc.DOMAIN`.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub dns_domain: Domain,
    /// Servers for names of other domains: a file like `/etc/resolv.conf`, read at start, or addresses separated by
    /// commas. Empty: no server; such queries are refused.
    #[arg(long, value_name = "FILE|ADDRESSES", default_value = "/etc/resolv.conf")]
    pub dns_upstream: Upstreams,
    /// Where `/healthz`, `/livez` and `/readyz` are answered; empty: nowhere. 0.0.0.0 and [::] are both families.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:10256", value_parser = parse_bind_address::<10_256>)]
    pub healthz_bind_address: BindAddress,
    /// Where `/metrics`, `/proxyMode`, `/configz`, `/statusz` and `/flagz` are answered; empty: nowhere.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249", value_parser = parse_bind_address::<10_249>)]
    pub metrics_bind_address: BindAddress,
    /// Service ports that have metrics of their own, three series each: the first ones by namespace and name.
    #[arg(long, value_name = "PORTS", default_value_t = 1_000)]
    pub metrics_service_ports: usize,
    /// Has the kernel measure how long programs run, for `svc_program_run_seconds_total`. It measures every program of the
    /// machine, which costs each of them some nanoseconds a run.
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = ArgAction::Set,
        hide_possible_values = true
    )]
    pub bpf_stats: bool,
    /// End if one of these addresses is in use, instead of retrying.
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = ArgAction::Set,
        hide_possible_values = true
    )]
    pub bind_address_hard_fail: bool,
    /// The value of `oom_score_adj` of this process, -1000 to 1000. By default it is left alone.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: Option<i32>,
    /// Gates of kube-proxy: `AllowServiceExternalIPs=false` leaves `spec.externalIPs` unserved. Others change nothing.
    #[arg(long, value_name = "NAME=BOOL,...", default_value = "", hide_default_value = true)]
    pub feature_gates: FeatureGates,
    /// XDP on uplinks. `auto`: native on network cards, not on virtual links, whose frames carry no complete
    /// checksum.
    #[arg(long, value_enum, default_value = "auto")]
    pub xdp: XdpPolicy,
    /// When the socket hooks serve pods too (ClusterIP only). `auto`: only while the daemon does not run, so that pods
    /// made meanwhile are served. `on`: always, so that packets need no translation, but a mesh's sidecar sees backends
    /// and no ClusterIPs.
    #[arg(long, value_enum, default_value = "auto")]
    pub pod_sockets: PodSocketsChoice,
    /// Directory where network namespaces of pods have names; may be given again. Connected UDP sockets in them are
    /// ended when their backend is gone.
    #[arg(long, value_name = "DIR", default_values = ["/run/netns"])]
    pub netns_dir: Vec<PathBuf>,
    /// Source ports for masquerade, FIRST-LAST. By default the longest range that neither the host's ephemeral ports
    /// nor NodePorts use; if that has fewer than 4096 ports, 32768-65535, which are then shared with the host.
    #[arg(long, value_name = "RANGE")]
    pub snat_ports: Option<PortRange>,
    /// Flows that one CPU may begin in a second, up to 1,000,000,000; 0: any number. Packets that would begin more are
    /// dropped and counted (`drop_new_flow_limit`).
    #[arg(long, value_name = "FLOWS", default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(..=1_000_000_000))]
    pub new_flow_limit: u32,
    /// Records of each family's flow table, two for each connection: a power of two. By default both tables take a 256th of
    /// the node's memory. Established connections survive a change.
    #[arg(long, value_name = "RECORDS")]
    pub flow_table_size: Option<FlowTableSize>,
    /// Upper limit for the entries of each table of Services and endpoints; no table becomes smaller than its first
    /// size. By default they grow as long as there is memory.
    #[arg(long, value_name = "ENTRIES", default_value_t = u32::MAX, hide_default_value = true)]
    pub max_table_entries: u32,
}

#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub pins: PinDir,
    #[command(flatten)]
    pub run_dir: RunDir,
    /// Show only the complaints, all of them, from the running daemon.
    #[arg(long)]
    pub complaints: bool,
    /// Only complaints about objects of this namespace.
    #[arg(long, value_name = "NAMESPACE", requires = "complaints")]
    pub namespace: Option<String>,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct CleanupArgs {
    #[command(flatten)]
    pub pins: PinDir,
    #[command(flatten)]
    pub run_dir: RunDir,
    /// Has no effect: the links of the cgroup go with their pins. Accepted so that the flags of `run` can be given.
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum What {
    Services,
    Backends,
    Flows,
    /// Clients that stay with their backend (`sessionAffinity: ClientIP`).
    Affinity,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PodSocketsChoice {
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum DetectLocal {
    Interface,
    #[value(alias = "ClusterCIDR")]
    ClusterCidr,
    #[value(alias = "NodeCIDR")]
    NodeCidr,
    #[value(alias = "BridgeInterface")]
    BridgeInterface,
    #[value(alias = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
    None,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum UnknownPorts {
    Pass,
    Drop,
}

/// Where to listen, if anywhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BindAddress(pub Option<SocketAddr>);

/// A missing port is added, as kube-proxy does it.
fn parse_bind_address<const PORT: u16>(text: &str) -> Result<BindAddress, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    match (text, bare.parse()) {
        ("", _) => Ok(BindAddress(None)),
        (_, Ok(address)) => Ok(BindAddress(Some(SocketAddr::new(address, PORT)))),
        (_, Err(_)) => {
            let address = text.parse().map_err(|_| "expected IP:PORT".to_owned())?;
            Ok(BindAddress(Some(address)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sources_and_addresses_are_parsed() {
        assert_eq!("manifests:/a".parse(), Ok(Source::Manifests("/a".into())));
        assert!("manifests:".parse::<Source>().is_err() && "files:/a".parse::<Source>().is_err());
        let address = |text| parse_bind_address::<9>(text).map(|address| address.0.map(|a| a.to_string()));
        for (text, parsed) in [("", None), ("[::1]:1", Some("[::1]:1")), ("::1", Some("[::1]:9"))] {
            assert_eq!(address(text), Ok(parsed.map(ToOwned::to_owned)), "{text}");
        }
        assert_eq!(address("127.0.0.1"), Ok(Some("127.0.0.1:9".to_owned())));
        assert!(address("localhost:1").is_err());
    }
}
