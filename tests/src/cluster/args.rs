//! Commands and flags of `svc-cluster`.

use std::ffi::OsString;

use clap::{Parser, Subcommand, ValueEnum};

/// A real Kubernetes cluster in namespaces of this machine
#[derive(Parser, Debug)]
#[command(name = "svc-cluster")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Make a cluster unless it exists
    Up(Up),
    /// Remove the cluster completely, including leftovers of an interrupted run
    Down,
    /// Show versions, processes, nodes, pods, and the duration of each step of the start
    Status,
    /// Run a shell or a command in a node (n1, n2, ...), in the hub or in the client outside
    Shell(Shell),
    /// Run kubectl as administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run Kubernetes' own network tests on a cluster of six nodes
    Conformance(Conformance),
}

#[derive(clap::Args, Clone, Debug)]
pub struct Up {
    /// Number of nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Link between pods and their node
    #[arg(long, value_enum, default_value_t = Cni::Ptp)]
    pub cni: Cni,
    /// Proxy that serves Services
    #[arg(long, value_enum, default_value_t = Proxy::Svc)]
    pub proxy: Proxy,
    /// Server of the cluster's DNS
    #[arg(long, value_enum, default_value_t = Dns::Coredns)]
    pub dns: Dns,
    /// No reverse path filter, no masquerading by the CNI, no FORWARD rule against INVALID
    #[arg(long)]
    pub lenient: bool,
    /// Zones of the nodes, repeated in order
    #[arg(long, value_delimiter = ',', value_name = "ZONE,...")]
    pub zones: Vec<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cni {
    /// A bridge on each node
    Bridge,
    /// A routed veth pair for each pod
    Ptp,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// This project's DaemonSet
    Svc,
    KubeProxyNftables,
    KubeProxyIptables,
    /// No proxy
    None,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// A Deployment of CoreDNS
    Coredns,
    /// svc on each node, which answers at the node's addresses; needs `--proxy svc`
    Svc,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Shell {
    /// n1, n2, ..., hub or client
    pub host: String,
    /// Command to run instead of a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Conformance {
    /// A regular expression over the names of specs; results are shown and not recorded
    pub focus: Option<String>,
    /// Proxy that serves Services
    #[arg(long, value_enum, default_value_t = Proxy::Svc)]
    pub proxy: Proxy,
    /// Server of the cluster's DNS. With svc only the specs of DNS run, and the results are shown and not recorded
    #[arg(long, value_enum, default_value_t = Dns::Coredns)]
    pub dns: Dns,
    /// Number of specs to run concurrently
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub procs: u8,
}

/// The value's spelling on the command line.
pub fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Up {
    /// The flags of this cluster, for comparing and for showing.
    pub fn words(&self) -> String {
        let dns =
            if self.dns == Dns::Coredns { String::new() } else { format!(" --dns {}", word(&self.dns)) };
        let lenient = if self.lenient { " --lenient" } else { "" };
        let zones =
            if self.zones.is_empty() { String::new() } else { format!(" --zones {}", self.zones.join(",")) };
        format!(
            "--nodes {} --cni {} --proxy {}{dns}{lenient}{zones}",
            self.nodes,
            word(&self.cni),
            word(&self.proxy)
        )
    }
}
