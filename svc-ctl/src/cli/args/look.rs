//! Arguments of `svc-ctl get` and `svc-ctl why`.

use clap::Args;

use super::{Filter, Output, PinDir, RunDir, What};

#[derive(Args, Debug)]
pub struct GetArgs {
    pub what: What,
    #[command(flatten)]
    pub filter: Filter,
    /// Only frontends that are missing in the kernel, surplus, or with other backends than wanted, for `services`. Exits with 3 if
    /// there is one. Needs the running daemon.
    #[arg(long)]
    pub diff: bool,
    #[command(flatten)]
    pub pins: PinDir,
    #[command(flatten)]
    pub run_dir: RunDir,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The packet: 'CLIENT -> ADDRESS:PORT/PROTO' in quotes, or CLIENT to ADDRESS:PORT/PROTO. The client is an address with or
    /// without a port, or `node`; the protocol is TCP if it is not given.
    #[arg(value_name = "PACKET", required = true, num_args = 1..=3)]
    pub packet: Vec<String>,
    /// The interface by which the packet comes (default: the one towards the client).
    #[arg(long = "in", value_name = "IFACE")]
    pub interface: Option<String>,
    #[command(flatten)]
    pub pins: PinDir,
    #[command(flatten)]
    pub run_dir: RunDir,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}
