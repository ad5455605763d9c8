//! A Service without endpoints refuses connections, host processes' at once, in the way that each kind of socket
//! supports.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};
use svc_tests::agent::{Refusal, Via};
use svc_tests::daemon::Flags;
use svc_tests::testbed::{AT_ONCE_MS, Testbed};
use svc_tests::topology::{Family, Options, Shape};

/// On veth the ICMP error may arrive while connect() still owns the socket. Then the kernel only retries after a
/// second (with nft's reject as well), and the second error is reported.
const SECOND_SYN_MS: u64 = 1500;

type SharedWorld = Arc<OnceLock<Result<Testbed, String>>>;
type Address = fn(&Testbed, Family) -> SocketAddr;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        let shared = SharedWorld::default();
        let addresses: [(&str, Address); 2] =
            [("ClusterIP", Testbed::cluster_ip), ("NodePort", Testbed::node_port)];
        for (frontend, address) in addresses {
            for client in ["pod", "node1", "client"] {
                for via in [Via::Tcp, Via::UdpConnected] {
                    for family in Family::BOTH {
                        let rule = if client == "node1" { "SEM-097" } else { "SEM-091" };
                        let name = format!(
                            "{shape_name}: {frontend} without endpoints refuses {client} {via} {family} at once ({rule})"
                        );
                        let shared = Arc::clone(&shared);
                        trials.push(Trial::test(name, move || {
                            let testbed = stand(&shared, shape)?;
                            refused(testbed, client, via, address(testbed, family))
                                .map_err(|error| format!("{error:#}\n{}", testbed.world.diagnosis()).into())
                        }));
                    }
                }
            }
        }
    }
    trials
}

fn stand(shared: &SharedWorld, shape: Shape) -> Result<&Testbed, Failed> {
    let name = format!("refused {shape:?}");
    let make = || Testbed::new(&name, Options { shape, ..Options::default() }, Flags::default(), &[]);
    let testbed = shared.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    testbed.as_ref().map_err(|error| format!("no testbed: {error}").into())
}

fn refused(testbed: &Testbed, client: &str, via: Via, to: SocketAddr) -> Result<()> {
    let Refusal { errno, call, elapsed_ms } = testbed.agent(client)?.refused(via, to)?;
    ensure!(errno == libc::ECONNREFUSED, "{call} says errno {errno} after {elapsed_ms} ms, not ECONNREFUSED");
    let by_icmp = client != "node1" && via == Via::Tcp;
    let limit = if by_icmp { SECOND_SYN_MS } else { AT_ONCE_MS };
    ensure!(elapsed_ms < limit, "{call} took {elapsed_ms} ms to say ECONNREFUSED");
    Ok(())
}
