//! Arguments about folders of manifests.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Output;
use crate::dns::settings::Domain;
use crate::plan::prefixes::Cidrs;

/// Flags of `run` that only a folder of manifests needs.
#[derive(Args, Clone, Debug)]
pub struct StandaloneArgs {
    /// With `--source manifests:DIR`: the nodes that run the readinessProbes of Pods. `on`: each node for itself.
    /// `one`: one node for all, the first by name that answers; with `--node-heartbeat`. `off`: no node.
    #[arg(long, value_enum, hide_possible_values = true, value_name = "on|one|off", default_value = "on")]
    pub probes: ProbesChoice,
    /// With `--source manifests:DIR`: keeps the addresses and node ports that Services were given in a file of this directory, so
    /// that they stay when Services come. By default they are kept until the daemon ends.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// With `--source manifests:DIR`: the nodes of the manifests ask each other for a sign of life at this UDP port, and the
    /// Pods of a node that stops answering get no new connections. By default they do not ask.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub node_heartbeat: Option<u16>,
}

#[derive(ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbesChoice {
    On,
    One,
    Off,
}

/// The rules for manifests.
#[derive(Args, Clone, Debug)]
pub struct ManifestRules {
    /// As for `run`: where ClusterIPs must be, and from where Services without one get theirs.
    #[arg(
        long,
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true,
        env = "SVC_SERVICE_CIDR"
    )]
    pub service_cidr: Cidrs,
    /// As for `run`.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub dns_domain: Domain,
}

#[derive(Args, Debug)]
pub struct ValidateArgs {
    /// A folder of manifests, or one file.
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
    #[command(flatten)]
    pub rules: ManifestRules,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct ApplyArgs {
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The folder that daemons watch (`run --source manifests:DIR`).
    #[arg(long, value_name = "DIR", default_value = "/etc/svc/manifests", env = "SVC_MANIFESTS")]
    pub to: PathBuf,
    #[command(flatten)]
    pub rules: ManifestRules,
}
