//! NodePorts at localhost, if `--nodeport-addresses` contains it: only sockets of the node itself reach them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options};

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "NodePorts at localhost answer processes of the node, whether the backend is here or elsewhere (SEM-025)",
            |test| testbed(test, "localhost"),
            answered_on_the_node,
        ),
        scenario(
            "localhost alone leaves the other addresses of the node without NodePorts (SEM-025)",
            |test| testbed(test, "localhost"),
            |testbed| refused(testbed, "client", Family::BOTH.map(|family| testbed.node_port(family))),
        ),
        scenario(
            "a pod's localhost is its own, though socket hooks serve pods (SEM-025)",
            |test| testbed(test, "localhost,all"),
            |testbed| refused(testbed, "pod", Family::BOTH.map(|family| localhost(testbed, family))),
        ),
    ]
}

fn testbed(test: &str, addresses: &str) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, Options::default())?;
    testbed.set_backends(&["near"])?;
    let flags = Flags { pod_sockets: true, ..Flags::default() };
    testbed.world.start_with(flags, &["--nodeport-addresses", addresses])?;
    Ok(testbed)
}

fn localhost(testbed: &Testbed, family: Family) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(address, testbed.node_port(family).port())
}

fn answered_on_the_node(testbed: &mut Testbed) -> Result<()> {
    for server in ["near", "far"] {
        testbed.set_backends(&[server])?;
        testbed.soon_answered_by(server, "node1", localhost(testbed, Family::V4))?;
        for family in Family::BOTH {
            let to = localhost(testbed, family);
            for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                testbed.answered_by(server, "node1", via, to).with_context(|| format!("{via} {to}"))?;
            }
        }
    }
    Ok(())
}

fn refused(testbed: &Testbed, client: &str, addresses: [SocketAddr; 2]) -> Result<()> {
    for to in addresses {
        let errno = testbed.agent(client)?.refused(Via::Tcp, to)?.errno;
        ensure!(errno == libc::ECONNREFUSED, "{client} at {to}: errno {errno}, not ECONNREFUSED");
    }
    Ok(())
}
