//! `svc-ctl run`.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use super::args::{RunArgs, Switch, XdpChoice};
use crate::app::{self, Config, XdpPolicy};
use crate::node::roles::RoleRules;
use crate::node::snat::{ephemeral_ports, port_range};

pub fn main(args: &RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(std::io::stderr)
        .init();
    let config = config(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(app::run(config));
    // Nobody waits for a table that is being read.
    runtime.shutdown_background();
    ended
}

/// What was typed, made usable.
fn config(args: &RunArgs) -> anyhow::Result<Config> {
    let node_name = match &args.hostname_override {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname().context("gethostname")?.to_string_lossy().to_lowercase(),
    };
    Ok(Config {
        source: args.source.clone(),
        // A variable of the environment may be there and empty.
        kubeconfig: args.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty()),
        master: args.master.clone().filter(|url| !url.is_empty()),
        node_name,
        pin_dir: args.pins.pin_dir.clone(),
        run_dir: args.run_dir.run_dir.clone(),
        cgroup: args.cgroup.clone(),
        roles: RoleRules {
            uplinks: args.uplink.clone(),
            excluded: args.exclude_interface.clone(),
            pods: args.pod_interface.clone(),
        },
        node_port_addresses: args.nodeport_addresses.clone(),
        healthz: args.healthz_bind_address.0,
        metrics: args.metrics_bind_address.0,
        xdp: match args.xdp {
            XdpChoice::Auto => XdpPolicy::Auto,
            XdpChoice::Native => XdpPolicy::Native,
            XdpChoice::Generic => XdpPolicy::Generic,
            XdpChoice::Off => XdpPolicy::Off,
        },
        pod_sockets: args.pod_sockets == Switch::On,
        snat_ports: match args.snat_ports {
            Some(range) => (range.first, range.count),
            None => port_range(ephemeral_ports()),
        },
    })
}
