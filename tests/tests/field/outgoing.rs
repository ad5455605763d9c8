//! Connections to the outside whose source port is a NodePort.

use anyhow::{Context as _, Result, ensure};
use svc_tests::agent::Via;
use svc_tests::manifests::Service;
use svc_tests::standin;
use svc_tests::topology::{Family, service};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::case::{Case, Row, Target, Way};
use crate::lab::Lab;

/// The first port of the servers outside. Each connection has one of its own, because its source port is always the
/// same.
const SERVER: u16 = 9_000;
/// Services whose NodePorts are the source ports.
const SERVICES: [&str; 2] = ["near", "far"];

pub fn cases() -> Vec<Case> {
    let rows = || {
        vec![
            Row::answered("client", Target::NodePort("far"), "far"),
            Row::answered("client", Target::NodePort("near"), "near"),
        ]
    };
    vec![
        Case {
            each: Some((
                "sockets whose source port is the NodePort are answered by the server outside",
                |lab, way| answered(lab, way, "pod"),
            )),
            ..Case::new("R02", "a pod's masqueraded connection from a NodePort is answered to it", rows())
        },
        Case {
            each: Some((
                "sockets whose source port is the NodePort are answered by the server outside",
                |lab, way| answered(lab, way, "node1"),
            )),
            ..Case::new("R03", "a connection of the node from a NodePort is answered to it", rows())
        },
        Case {
            each: Some(("connections that are open go on when the NodePort begins", |lab, way| {
                older(lab, way, "pod")
            })),
            ..Case::new(
                "R02",
                "a pod's masqueraded connection that is older than the NodePort of its source port goes on (SEM-079)",
                rows(),
            )
        },
        Case {
            each: Some(("connections that are open go on when the NodePort begins", |lab, way| {
                older(lab, way, "node1")
            })),
            ..Case::new(
                "R03",
                "a connection of the node that is older than the NodePort of its source port goes on (SEM-079)",
                rows(),
            )
        },
    ]
}

/// Every socket of the client has the NodePort as its source port.
fn answered(lab: &mut Lab, way: Way, client: &str) -> Result<()> {
    for (n, service) in (0..).zip(SERVICES) {
        let number = SERVER + 10 * (way as u16) + n;
        lab.world.topology.client.agent.serve(number)?;
        with_only_port(lab, client, lab.service(service)?.node_port, || {
            for family in Family::BOTH {
                let server = (lab.world.topology.client.addrs.of(family), number).into();
                for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
                    let answers = lab.world.topology.host(client)?.agent.ask(via, server, 1);
                    let answers = answers.with_context(|| format!("{via} from the NodePort of {service}"))?;
                    ensure!(answers.iter().all(|answer| answer.server == "client"), "{via}: {answers:?}");
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Services that begin later, in each variant one for each family, with their NodePorts.
const LATER: [[(&str, u16); 2]; 3] = [
    [("direct-4", 31_770), ("direct-6", 31_771)],
    [("nft-4", 31_772), ("nft-6", 31_773)],
    [("svc-4", 31_774), ("svc-6", 31_775)],
];

/// The connections are open when the NodePorts begin.
fn older(lab: &mut Lab, way: Way, client: &str) -> Result<()> {
    let n = way as u8;
    let later = LATER[usize::from(n)];
    let number = SERVER + 10 * u16::from(n);
    let topology = &lab.world.topology;
    topology.client.agent.serve(number)?;
    let mut open = Vec::new();
    for (family, (_, port)) in Family::BOTH.into_iter().zip(later) {
        with_only_port(lab, client, port, || {
            let agent = &topology.host(client)?.agent;
            let server = (topology.client.addrs.of(family), number).into();
            open.push((format!("TCP {family}"), agent.start_stream(server, 20)?));
            open.push((format!("UDP {family}"), agent.start_datagrams(Via::UdpConnected, server, 20)?));
            Ok(())
        })?;
    }
    let goes_on = |more: u64| {
        open.iter().try_for_each(|(what, job)| {
            let before = job.look()?.ok;
            wait::until_true(&format!("{what} goes on"), CHANGE_LIMIT, || {
                let report = job.look()?;
                ensure!(report.failed == 0, "{report:?}");
                Ok(report.ok >= before + more)
            })
        })
    };
    goes_on(1)?;
    for ((name, node_port), last) in later.into_iter().zip(20 + 2 * n..) {
        let (cluster, backends) = (service(last), vec![lab.world.backend("far")?]);
        let later =
            Service { name: name.into(), cluster, node_port, external: None, affinity: None, backends };
        lab.services.push(later.clone());
        if way == Way::Svc {
            lab.world.folder.write_service(&later)?;
        }
    }
    if way == Way::Nft {
        lab.world.topology.nodes.iter().try_for_each(|node| {
            standin::remove(node)?;
            standin::install(node, &lab.services)
        })?;
    }
    if way != Way::Direct {
        let rows = later.map(|(name, _)| Row::answered("client", Target::NodePort(name), "far"));
        lab.soon(way, &rows)?;
    }
    goes_on(5)
}

/// In the meantime the sockets of the host get only this source port.
pub fn with_only_port<T>(lab: &Lab, host: &str, port: u16, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let netns = &lab.world.topology.host(host)?.netns;
    let set = |range: &str| netns.sysctl(&[("net/ipv4/ip_local_port_range", range)]);
    set(&format!("{port} {port}"))?;
    let outcome = act();
    set("32768 60999")?;
    outcome
}
