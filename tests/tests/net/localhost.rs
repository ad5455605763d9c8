//! NodePorts at localhost, where `--nodeport-addresses` has the word: for sockets of the node and nobody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::topology::{Family, Options};

use crate::stage::{Stage, scenario};

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "NodePorts at localhost answer processes of the node, whether the backend is here or elsewhere (SEM-025)",
            |test| stage(test, "localhost"),
            answered_on_the_node,
        ),
        scenario(
            "localhost alone leaves the other addresses of the node without NodePorts (SEM-025)",
            |test| stage(test, "localhost"),
            |stage| refused(stage, "client", Family::BOTH.map(|family| stage.node_port(family))),
        ),
        scenario(
            "a pod's localhost is its own, though socket hooks serve pods (SEM-025)",
            |test| stage(test, "localhost,all"),
            |stage| refused(stage, "pod", Family::BOTH.map(|family| localhost(stage, family))),
        ),
    ]
}

fn stage(test: &str, addresses: &str) -> Result<Stage> {
    let mut stage = Stage::without_svc(test, Options::default())?;
    stage.set_backends(&["near"])?;
    let flags = Flags { pod_sockets: true, ..Flags::default() };
    stage.world.start_with(flags, &["--nodeport-addresses", addresses])?;
    Ok(stage)
}

fn localhost(stage: &Stage, family: Family) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(address, stage.node_port(family).port())
}

fn answered_on_the_node(stage: &mut Stage) -> Result<()> {
    for server in ["near", "far"] {
        stage.set_backends(&[server])?;
        stage.soon_answered_by(server, "node1", localhost(stage, Family::V4))?;
        for family in Family::BOTH {
            let to = localhost(stage, family);
            for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                stage.answered_by(server, "node1", via, to).with_context(|| format!("{via} {to}"))?;
            }
        }
    }
    Ok(())
}

fn refused(stage: &Stage, client: &str, addresses: [SocketAddr; 2]) -> Result<()> {
    for to in addresses {
        let errno = stage.agent(client)?.refused(Via::Tcp, to)?.errno;
        ensure!(errno == libc::ECONNREFUSED, "{client} at {to}: errno {errno}, not ECONNREFUSED");
    }
    Ok(())
}
