//! A Service without endpoints refuses, host processes at once, by whatever means the client's kind of socket understands.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};
use svc_tests::agent::{Refusal, Via};
use svc_tests::daemon::Flags;
use svc_tests::topology::{Family, Options, Shape};

use crate::stage::{AT_ONCE_MS, Stage};

/// On veth the ICMP error may come back while connect() still owns the socket, which only makes the kernel try
/// again after a second (with nft's reject as well); the second error is then taken.
const SECOND_SYN_MS: u64 = 1500;

type Shelf = Arc<OnceLock<Result<Stage, String>>>;
type Address = fn(&Stage, Family) -> SocketAddr;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        let shelf = Shelf::default();
        let addresses: [(&str, Address); 2] =
            [("ClusterIP", Stage::cluster_ip), ("NodePort", Stage::node_port)];
        for (frontend, address) in addresses {
            for client in ["pod", "node1", "client"] {
                for via in [Via::Tcp, Via::UdpConnected] {
                    for family in Family::BOTH {
                        let rule = if client == "node1" { "SEM-097" } else { "SEM-091" };
                        let name = format!(
                            "{shape_name}: {frontend} without endpoints refuses {client} {via} {family} at once ({rule})"
                        );
                        let shelf = Arc::clone(&shelf);
                        trials.push(Trial::test(name, move || {
                            let stage = stand(&shelf, shape)?;
                            refused(stage, client, via, address(stage, family))
                                .map_err(|error| format!("{error:#}\n{}", stage.world.diagnosis()).into())
                        }));
                    }
                }
            }
        }
    }
    trials
}

fn stand(shelf: &Shelf, shape: Shape) -> Result<&Stage, Failed> {
    let name = format!("refused {shape:?}");
    let make = || Stage::new(&name, Options { shape, ..Options::default() }, Flags::default(), &[]);
    let stage = shelf.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    stage.as_ref().map_err(|error| format!("no stage: {error}").into())
}

fn refused(stage: &Stage, client: &str, via: Via, to: SocketAddr) -> Result<()> {
    let Refusal { errno, call, elapsed_ms } = stage.agent(client)?.refused(via, to)?;
    ensure!(errno == libc::ECONNREFUSED, "{call} says errno {errno} after {elapsed_ms} ms, not ECONNREFUSED");
    let by_icmp = client != "node1" && via == Via::Tcp;
    let limit = if by_icmp { SECOND_SYN_MS } else { AT_ONCE_MS };
    ensure!(elapsed_ms < limit, "{call} took {elapsed_ms} ms to say ECONNREFUSED");
    Ok(())
}
