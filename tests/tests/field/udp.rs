//! UDP sockets while endpoints come and go, and datagrams in fragments.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use svc_common::abi::limits::SOCKETS as SOCKETS_ROOM;
use svc_tests::agent::{Job, LIMIT, Report, Sockets, Via};
use svc_tests::manifests::{SERVER_PORT, Service};
use svc_tests::standin;
use svc_tests::testbed::{no_failure, until_more_than};
use svc_tests::topology::{Family, service};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::case::{Case, Row, Target, Way};
use crate::lab::Lab;
use crate::outgoing::with_only_port;
use crate::ports;

/// The Service with other endpoints later.
const CHANGING: &str = "changing";
const CLIENTS: [(&str, Target); 2] =
    [("pod", Target::ClusterIp(CHANGING)), ("client", Target::NodePort(CHANGING))];
/// Unconnected sockets of each client and family. If each were selected again, all would stay once in 2^4 times.
const SOCKETS: usize = 4;
/// Three fragments.
const DATAGRAM: usize = 4_000;
/// Datagrams of each client and family. If a fragment chose by itself, all would be whole once in 2^16 times.
const DATAGRAMS: usize = 8;
/// Longer than the time after which a datagram without a reply counts as failed.
const VERDICT_LIMIT: Duration = Duration::from_secs(10);
/// The port of the server's answers in R23.
const OTHER_PORT: u16 = 6_969;
/// The source ports of R38; each variant and family has its own, because conntrack knows those before.
const SOURCE_PORTS: u16 = 20_000;

pub fn cases() -> Vec<Case> {
    let rows = || CLIENTS.map(|(client, to)| Row::answered(client, to, "near")).to_vec();
    let unconnected = |pod_sockets, sentence| Case {
        pod_sockets,
        prepare: with_changing_endpoints,
        each: Some(("sockets stay with their backend, and new ones reach the new backend", stays)),
        ..Case::new("R15", sentence, rows())
    };
    vec![
        unconnected(false, "an unconnected UDP socket keeps a backend that lives (SEM-127)"),
        unconnected(
            true,
            "an unconnected UDP socket keeps a backend that lives, by the socket hooks (SEM-127)",
        ),
        Case {
            prepare: with_changing_endpoints,
            each: Some((
                "an open socket has no answer after its backend is gone; with svc the new backend answers it",
                leaves,
            )),
            ..Case::new("R37", "a connected UDP socket leaves a backend that is gone (SEM-125)", rows())
        },
        Case {
            prepare: with_changing_endpoints,
            each: Some((
                "the source port has no answer after its backend is gone; with svc the new backend answers it",
                fixed_port_leaves,
            )),
            ..Case::new(
                "R38",
                "a UDP client with a fixed source port leaves a backend that is gone (SEM-125)",
                rows(),
            )
        },
        Case {
            pod_sockets: true,
            prepare: with_changing_endpoints,
            each: Some((
                "an open socket has no answer after its backend is gone; with svc, which has translated as many sockets in \
                 between as its table has room for, the client opens another one, and the new backend answers",
                leaves_after_many_sockets,
            )),
            ..Case::new(
                "R16",
                "a connected UDP socket leaves a backend that is gone, however many sockets are younger (SEM-130)",
                vec![
                    Row::answered("pod", Target::ClusterIp(CHANGING), "near"),
                    Row::answered("node1", Target::ClusterIp(CHANGING), "near"),
                ],
            )
        },
        Case {
            prepare: |lab| lab.world.end_cni_masquerade(),
            each: Some((
                "a client that accepts answers from another port has one, except through a NodePort to another node",
                answers_from_another_port,
            )),
            ..Case::new(
                "R23",
                "an answer from another port than the one asked (TFTP)",
                vec![
                    Row::answered("client", Target::NodePort("near"), "near"),
                    Row::answered("client", Target::NodePort("far"), "far"),
                    Row::answered("pod", Target::ClusterIp("near"), "near"),
                    Row::answered("pod", Target::ClusterIp("far"), "far"),
                ],
            )
        },
        Case {
            prepare: ports::with_two_backends,
            each: Some(("datagrams of 4,000 octets are answered whole", fragments)),
            ..Case::new(
                "R46",
                "UDP fragments after the first reach the backend of the first",
                vec![Row::answered("client", Target::NodePort("near"), "near")],
            )
        },
    ]
}

fn changing(lab: &Lab, backends: &[&str]) -> Result<Service> {
    Ok(Service {
        name: CHANGING.into(),
        cluster: service(15),
        node_port: 30_085,
        external: None,
        affinity: None,
        backends: backends.iter().map(|name| lab.world.backend(name)).collect::<Result<_>>()?,
    })
}

fn with_changing_endpoints(lab: &mut Lab) -> Result<()> {
    let service = changing(lab, &["near"])?;
    lab.world.folder.write_service(&service)?;
    lab.services.push(service);
    Ok(())
}

/// Gives the Service these backends; the control sends new flows to the first of them.
fn change(lab: &Lab, way: Way, backends: &[&str]) -> Result<()> {
    let service = changing(lab, backends)?;
    match way {
        Way::Direct => Ok(()),
        Way::Svc => lab.world.folder.write_service(&service),
        Way::Nft => {
            let mut services = lab.services.clone();
            services.retain(|other| other.name != CHANGING);
            services.push(service);
            lab.world.topology.nodes.iter().try_for_each(|node| {
                standin::remove(node)?;
                standin::install(node, &services)
            })
        }
    }
}

/// Waits until new sockets reach `far`.
fn in_force(lab: &Lab, way: Way) -> Result<()> {
    if way == Way::Direct {
        return Ok(());
    }
    for (client, to) in CLIENTS {
        for family in Family::BOTH {
            let to = lab.address(to, family)?;
            wait::until_true(&format!("far answers a new socket of {client}, {to}"), CHANGE_LIMIT, || {
                let answers = lab.world.topology.host(client)?.agent.ask(Via::UdpConnected, to, 10)?;
                Ok(answers.iter().any(|answer| answer.server == "far"))
            })?;
        }
    }
    Ok(())
}

fn sockets(lab: &Lab, way: Way, via: Via, each: usize, limit: Duration) -> Result<Vec<(String, Job)>> {
    let mut jobs = Vec::new();
    for (client, target) in CLIENTS {
        for family in Family::BOTH {
            let to = lab.dialled(way, target, "near", family)?;
            let agent = &lab.world.topology.host(client)?.agent;
            for _ in 0..each {
                jobs.push((format!("{client} {to}"), agent.start_datagrams_within(limit, via, to, 20)?));
            }
        }
    }
    go_on(&jobs)?;
    Ok(jobs)
}

/// Every socket has more answers, without a failure; all are looked at before the first is waited for.
fn go_on(jobs: &[(String, Job)]) -> Result<Vec<Report>> {
    let before = jobs.iter().map(|(_, job)| job.look()).collect::<Result<Vec<_>>>()?;
    let goes_on = |((what, job), before): (&(String, Job), &Report)| {
        let now = until_more_than(before, job, 3)?;
        no_failure(what, &now)?;
        Ok(now)
    };
    jobs.iter().zip(&before).map(goes_on).collect()
}

fn stays(lab: &mut Lab, way: Way) -> Result<()> {
    let jobs = sockets(lab, way, Via::UdpUnconnected, SOCKETS, LIMIT)?;
    change(lab, way, &["far", "near"])?;
    in_force(lab, way)?;
    for ((what, _), now) in jobs.iter().zip(go_on(&jobs)?) {
        ensure!(now.by_server.keys().eq(["near"]), "{what}: {:?} answered", now.by_server);
    }
    Ok(())
}

/// The pod's address stays, and answers no datagram.
fn silence_near(lab: &Lab) -> Result<()> {
    lab.world.topology.host("near")?.netns.nft(&format!(
        "table inet gone {{ chain in {{ type filter hook input priority 0; udp dport {SERVER_PORT} drop; }}\n}}"
    ))
}

fn end_silence(lab: &Lab) -> Result<()> {
    lab.world.topology.host("near")?.netns.nft("delete table inet gone")
}

/// kube-proxy deletes the conntrack entries of a backend that is gone. The control has only the rules, so it stays with
/// that backend.
fn leaves(lab: &mut Lab, way: Way) -> Result<()> {
    let jobs = sockets(lab, way, Via::UdpConnected, 1, Duration::from_secs(1))?;
    change(lab, way, &["far"])?;
    in_force(lab, way)?;
    silence_near(lab)?;
    for (what, job) in &jobs {
        let before = job.look()?;
        wait::until_true(&format!("{way:?}: {what} is over, or goes on with svc"), VERDICT_LIMIT, || {
            let now = job.look()?.since(&before);
            ensure!(!now.by_server.contains_key("near"), "near answers");
            let goes_on = now.by_server.contains_key("far");
            ensure!(way == Way::Svc || !goes_on, "far answers");
            Ok(if way == Way::Svc { goes_on } else { now.failed > 0 })
        })?;
    }
    end_silence(lab)
}

/// More than svc has room for, of which it stores only open ones.
const MANY: u32 = SOCKETS_ROOM + 5_000;

fn leaves_after_many_sockets(lab: &mut Lab, way: Way) -> Result<()> {
    let clients = ["pod", "node1"];
    let mut jobs = Vec::new();
    for client in clients {
        for family in Family::BOTH {
            let to = lab.dialled(way, Target::ClusterIp(CHANGING), "near", family)?;
            let job = lab.world.topology.host(client)?.agent.start_redialling(to, 20)?;
            jobs.push((format!("{client} {to}"), job));
        }
    }
    go_on(&jobs)?;
    for family in Family::BOTH.into_iter().filter(|_| way == Way::Svc) {
        let to = lab.address(Target::ClusterIp("far"), family)?;
        lab.world.topology.host("node1")?.agent.time(Via::UdpConnected, to, MANY, Sockets::Unused)?;
    }
    let before = jobs.iter().map(|(_, job)| job.look()).collect::<Result<Vec<_>>>()?;
    change(lab, way, &["far"])?;
    in_force(lab, way)?;
    silence_near(lab)?;
    for ((what, job), before) in jobs.iter().zip(before) {
        wait::until_true(&format!("{way:?}: {what} is over, or goes on with svc"), VERDICT_LIMIT, || {
            let now = job.look()?.since(&before);
            Ok(if way == Way::Svc { now.by_server.contains_key("far") } else { now.failed > 0 })
        })?;
    }
    end_silence(lab)?;
    jobs.into_iter().try_for_each(|(_, job)| job.stop().map(drop))
}

/// The server's answers leave by another port, as a TFTP server's data do.
fn answers_from_another_port(lab: &mut Lab, way: Way) -> Result<()> {
    let topology = &lab.world.topology;
    for server in ["near", "far"] {
        topology.host(server)?.netns.nft(&format!(
            "table inet tftp {{ chain out {{
                type filter hook output priority raw; udp sport {SERVER_PORT} notrack udp sport set {OTHER_PORT};
            }}\n}}"
        ))?;
    }
    let through = [
        ("client", Target::NodePort("near"), "near", true),
        ("client", Target::NodePort("far"), "far", way == Way::Direct),
        ("pod", Target::ClusterIp("near"), "near", true),
        // The control masquerades what goes to another node, and so its answers have no way back.
        ("pod", Target::ClusterIp("far"), "far", way != Way::Nft),
    ];
    for (client, target, server, is_answered) in through {
        for family in Family::BOTH {
            let to = lab.dialled(way, target, server, family)?;
            let answer = topology.host(client)?.netns.within(|| answer_from_anywhere(to))?;
            ensure!(answer.is_some() == is_answered, "{client} {to}: an answer from {answer:?}");
            ensure!(answer.is_none_or(|from| from.port() == OTHER_PORT), "{client} {to}: from {answer:?}");
        }
    }
    for server in ["near", "far"] {
        topology.host(server)?.netns.nft("delete table inet tftp")?;
    }
    Ok(())
}

/// The source of the answer to a datagram.
fn answer_from_anywhere(to: SocketAddr) -> Result<Option<SocketAddr>> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.send_to(b"who", to)?;
    match socket.recv_from(&mut [0; 64]) {
        Ok((_, from)) => Ok(Some(from)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// As in [`leaves`], with a new socket for each datagram.
fn fixed_port_leaves(lab: &mut Lab, way: Way) -> Result<()> {
    let ask = |at: u16, client: &str, to| {
        with_only_port(lab, client, at, || {
            lab.world.topology.host(client)?.agent.ask(Via::UdpConnected, to, 1)
        })
    };
    let mut asked = Vec::new();
    for (at, (client, target)) in (SOURCE_PORTS + 10 * (way as u16)..).zip(CLIENTS) {
        for family in Family::BOTH {
            let to = lab.dialled(way, target, "near", family)?;
            ask(at, client, to).with_context(|| format!("{client} {to}"))?;
            asked.push((at, client, to));
        }
    }
    change(lab, way, &["far"])?;
    in_force(lab, way)?;
    silence_near(lab)?;
    for (at, client, to) in asked {
        let answer = ask(at, client, to);
        if way == Way::Svc {
            let answers = answer.with_context(|| format!("{client} {to}"))?;
            ensure!(answers.iter().all(|answer| answer.server == "far"), "{client} {to}: {answers:?}");
        } else {
            ensure!(answer.is_err(), "{client} {to}: {answer:?}");
        }
    }
    end_silence(lab)
}

fn fragments(lab: &mut Lab, way: Way) -> Result<()> {
    for (client, target) in [("client", Target::NodePort("pair")), ("pod", Target::ClusterIp("pair"))] {
        for family in Family::BOTH {
            let to = lab.dialled(way, target, "near", family)?;
            for _ in 0..DATAGRAMS {
                let answer = lab.world.topology.host(client)?.agent.ask_long(Via::UdpConnected, to, DATAGRAM);
                answer.with_context(|| format!("{client} {to}"))?;
            }
        }
    }
    Ok(())
}
