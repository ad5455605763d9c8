//! Arguments of the commands that only look.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

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

#[derive(Args, Debug)]
pub struct SysdumpArgs {
    /// The archive that is written.
    #[arg(value_name = "FILE.tar.gz")]
    pub file: PathBuf,
    /// A file with the daemon's log, whose last 10,000 lines are added.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Where the daemon answers `/configz`, `/flagz` and `/metrics` (its `--metrics-bind-address`).
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    pub metrics_address: SocketAddr,
    #[command(flatten)]
    pub pins: PinDir,
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// The order of Services.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Sort {
    /// By new flows a second.
    New,
    /// By live flows.
    Live,
    /// By octets a second.
    Octets,
    /// By name.
    Name,
}

impl Sort {
    pub const fn of_key(key: char) -> Option<Self> {
        match key {
            'n' => Some(Self::New),
            'l' => Some(Self::Live),
            'o' => Some(Self::Octets),
            'a' => Some(Self::Name),
            _ => None,
        }
    }
}

#[derive(Args, Debug)]
pub struct TopArgs {
    /// Print one frame as text and end.
    #[arg(long)]
    pub once: bool,
    /// Seconds between two readings.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub period: f64,
    /// The order of Services.
    #[arg(long, value_enum, default_value = "new")]
    pub sort: Sort,
    /// Width of the frame of `--once`.
    #[arg(long, value_name = "COLUMNS", default_value_t = 100)]
    pub columns: u16,
    #[command(flatten)]
    pub pins: PinDir,
    #[command(flatten)]
    pub run_dir: RunDir,
}
