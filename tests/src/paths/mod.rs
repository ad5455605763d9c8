//! Measures requests of real sockets by each path: without a Service, by nft rules, by programs at interfaces, by socket
//! hooks, through the stack. Every path has a network of its own, and each round asks all of them, so that figures of
//! one round can be compared.

mod args;
mod report;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use args::Args;

use crate::agent::{Sockets, Via};
use crate::cleanup::Cleanup;
use crate::daemon::Flags;
use crate::standin;
use crate::testbed::Testbed;
use crate::topology::{Between, Family, Options};

/// Requests of one sample.
const REQUESTS: u32 = 100;

/// The way of packets to the backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Path {
    /// The client dials the backend itself, and no proxy runs.
    Direct,
    /// nft rules like kube-proxy's, of one Service.
    Nft,
    /// svc as it is by default: programs at interfaces.
    Programs,
    /// `--pod-sockets on`.
    SocketHooks,
    /// `--masquerade-through-stack always`: masqueraded packets pass netfilter.
    Stack,
    /// A node whose rules of policy routing name a source.
    BySource,
}

impl Path {
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::Nft, Self::Programs, Self::SocketHooks, Self::Stack, Self::BySource];

    fn options(self) -> Options {
        let between = match self {
            Self::BySource => Between::OwnUplinkBySource,
            _ => Between::OwnUplink,
        };
        Options { between, ..Options::default() }
    }

    /// The path has figures of this case.
    const fn plays(self, case: &Case) -> bool {
        match self {
            Self::Direct | Self::Nft | Self::Programs => true,
            Self::SocketHooks => matches!(case.dials, Dials::ClusterIp),
            Self::Stack | Self::BySource => matches!(case.dials, Dials::NodePort),
        }
    }
}

/// The Service's address that the client dials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dials {
    ClusterIp,
    /// At node1.
    NodePort,
}

/// A client's requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Case {
    pub client: &'static str,
    pub backend: &'static str,
    pub dials: Dials,
    pub via: Via,
    pub sockets: Sockets,
    pub family: Family,
}

/// The time of one request in each round.
#[derive(Clone, Debug)]
pub struct Series {
    pub path: Path,
    pub case: Case,
    pub samples: Vec<Duration>,
}

/// Prints the table.
pub fn main(args: &Args) -> Result<()> {
    let _cleanup = Cleanup::start()?;
    let mut all = Vec::new();
    // One Service has one backend at a time.
    for backend in ["near", "far"] {
        let beds = Path::ALL.into_iter().map(|path| Ok((path, prepare(path, backend)?)));
        let beds = beds.collect::<Result<Vec<_>>>()?;
        let mut series: Vec<_> = cases(backend)
            .flat_map(|case| Path::ALL.map(|path| Series { path, case, samples: Vec::new() }))
            .filter(|series| series.path.plays(&series.case))
            .collect();
        for round in 0..args.rounds {
            eprint!("\r{backend}: round {} of {}", round + 1, args.rounds);
            for one in &mut series {
                let bed = beds.iter().find(|(path, _)| *path == one.path).context("a path's network")?;
                one.samples.push(sample(&bed.1, one.path, &one.case)?);
            }
        }
        eprintln!();
        all.extend(series);
    }
    print!("{}", report::markdown(&all, args.rounds));
    Ok(())
}

fn cases(backend: &'static str) -> impl Iterator<Item = Case> {
    let ends = [("pod", Dials::ClusterIp), ("client", Dials::NodePort)];
    let kinds = [
        (Via::UdpConnected, Sockets::Shared),
        (Via::UdpConnected, Sockets::Fresh),
        (Via::Tcp, Sockets::Shared),
        (Via::Tcp, Sockets::Fresh),
    ];
    ends.into_iter().flat_map(move |(client, dials)| {
        kinds.into_iter().flat_map(move |(via, sockets)| {
            Family::BOTH.map(|family| Case { client, backend, dials, via, sockets, family })
        })
    })
}

fn prepare(path: Path, backend: &str) -> Result<Testbed> {
    let mut bed = Testbed::without_svc(&format!("paths {path:?} {backend}"), path.options())?;
    bed.route_client_to_pods()?;
    bed.set_backends(&[backend])?;
    match path {
        Path::Direct => {}
        Path::Nft => {
            let service = bed.service(&[backend])?;
            bed.world
                .topology
                .nodes
                .iter()
                .try_for_each(|node| standin::install(node, std::slice::from_ref(&service)))?;
        }
        Path::Programs | Path::BySource => bed.world.start(Flags::default())?,
        Path::SocketHooks => bed.world.start(Flags { pod_sockets: true, ..Flags::default() })?,
        Path::Stack => {
            bed.world.start_with(Flags::default(), &["--masquerade-through-stack", "always"])?;
        }
    }
    Ok(bed)
}

fn sample(bed: &Testbed, path: Path, case: &Case) -> Result<Duration> {
    let to: SocketAddr = match (path, case.dials) {
        (Path::Direct, _) => {
            let addrs = bed.world.topology.host(case.backend)?.addrs;
            (addrs.of(case.family), crate::manifests::SERVER_PORT).into()
        }
        (_, Dials::ClusterIp) => bed.cluster_ip(case.family),
        (_, Dials::NodePort) => bed.node_port(case.family),
    };
    let took = bed.agent(case.client)?.time(case.via, to, REQUESTS, case.sockets);
    let took = took.with_context(|| format!("{path:?} {case:?}\n{}", bed.world.diagnosis()))?;
    Ok(took / REQUESTS)
}
