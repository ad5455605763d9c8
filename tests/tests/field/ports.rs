//! Source ports: those that the node itself uses, and those that svc gives to masqueraded flows.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use svc_tests::agent::{Probe, Report, Sockets, Tried, Via};
use svc_tests::command;
use svc_tests::manifests::Service;
use svc_tests::testbed::until_more_than;
use svc_tests::topology::{Addrs, Family, service};
use svc_tests::wait;

use crate::case::{Case, Row, Target, Way};
use crate::lab::Lab;

pub fn cases() -> Vec<Case> {
    vec![
        Case {
            prepare: |lab| {
                let setting = ("net/ipv4/ip_local_port_range", "1024 65535");
                lab.world.topology.nodes.iter().try_for_each(|node| node.host.netns.sysctl(&[setting]))
            },
            also: Some(("a complaint names the setting", |lab| {
                lab.complains(&["net/ipv4/ip_local_port_range", "1024-65535", "32768-65535"])
            })),
            ..Case::new(
                "N1",
                "a node that uses every port itself still masquerades, and says so",
                Row::of_each_place(),
            )
        },
        Case {
            prepare: |lab| {
                let settings = [
                    ("net/ipv4/ip_local_port_range", "1024 65535"),
                    ("net/ipv4/ip_local_reserved_ports", "50000-59999"),
                ];
                lab.world.topology.nodes.iter().try_for_each(|node| node.host.netns.sysctl(&settings))
            },
            also: Some(("no complaint names the setting", |lab| {
                let complaints = format!("{:?}", lab.world.daemon(1)?.complaints()?);
                anyhow::ensure!(!complaints.contains("ip_local_port_range"), "it complains of {complaints}");
                Ok(())
            })),
            ..Case::new("N1", "ports that the node reserves are the masquerade's alone", Row::of_each_place())
        },
        Case {
            flags: &["--snat-ports", "40000-40159"],
            prepare: |lab| {
                // The control has the same ports. Its own rule comes later.
                lab.world.topology.node(1).host.netns.nft(
                    "table inet same_ports {
                        chain out {
                            type nat hook postrouting priority 80;
                            meta l4proto { tcp, udp } ct status dnat masquerade to :40000-40159
                        }
                    }",
                )
            },
            each: Some(("before svc, 150 queries are answered, each from its own port", one_query_each)),
            also: Some((
                "queries at 4/s are answered for as long as the ports would not suffice",
                queries_for_a_minute,
            )),
            ..Case::new(
                "Y1",
                "a UDP query frees its source port after half a minute (SEM-080)",
                vec![Row::answered("client", Target::NodePort("far"), "far")],
            )
        },
        Case {
            prepare: with_two_backends,
            flags: &["--flow-table-size", "2048"],
            each: Some(("idle connections go on after the burst", idle_connections_go_on)),
            also: Some(("records of idle connections had been evicted", |lab| {
                let daemon = lab.world.daemon(1)?;
                wait::until_true("idle connections had lost their records", COUNT_LIMIT, || {
                    Ok(daemon.status()?["counters"]["flow_midstream"].as_u64() > Some(0))
                })
            })),
            ..Case::new(
                "R17",
                "idle connections go on after others have filled the flow table (SEM-120)",
                vec![Row::answered("client", Target::NodePort("near"), "near")],
            )
        },
        Case {
            prepare: |lab| {
                CLIENTS.iter().skip(1).try_for_each(|addrs| {
                    let (v4, v6) = (addrs.v4, addrs.v6);
                    lab.world
                        .topology
                        .client
                        .netns
                        .ip(&format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad"))
                })
            },
            flags: &["--snat-ports", "40000-44095"],
            each: Some(("no connection is reset in TIME_WAIT", no_server_in_time_wait)),
            ..Case::new(
                "Y2",
                "the source port of a closed connection rests while the server is in TIME_WAIT (SEM-080)",
                vec![Row::answered("client", Target::NodePort("far"), "far")],
            )
        },
    ]
}

/// Queries, each from a port of its own.
const QUERIES: u32 = 150;
/// At this rate fewer than 160 queries are younger than the 30 s for which nf_conntrack and svc keep one.
const QUERIES_PER_SECOND: u32 = 4;
/// More than svc has ports in that case.
const MANY_QUERIES: u64 = 170;
const QUERIES_LIMIT: Duration = Duration::from_secs(120);

fn one_query_each(lab: &mut Lab, way: Way) -> Result<()> {
    if way == Way::Svc {
        return Ok(());
    }
    for family in Family::BOTH {
        let to = lab.dialled(way, Target::NodePort("far"), "far", family)?;
        lab.world.topology.client.agent.ask(Via::UdpConnected, to, QUERIES)?;
    }
    Ok(())
}

fn queries_for_a_minute(lab: &mut Lab) -> Result<()> {
    let client = &lab.world.topology.client.agent;
    let mut jobs = Vec::new();
    for family in Family::BOTH {
        let to = lab.address(Target::NodePort("far"), family)?;
        jobs.push((to, client.start_load(Via::UdpConnected, to, QUERIES_PER_SECOND)?));
    }
    for (to, job) in jobs {
        wait::until_true(&format!("{MANY_QUERIES} queries to {to}"), QUERIES_LIMIT, || {
            let report = job.look()?;
            Ok(report.failed > 0 || report.ok >= MANY_QUERIES)
        })?;
        let report = job.stop()?;
        ensure!(report.failed == 0, "{to}: {report:?}");
    }
    Ok(())
}

/// Connections that are idle, in each family.
const IDLE: usize = 10;
/// More connections than the flow table has room for: each has two records there once the client has acknowledged the
/// handshake.
const BURST: u32 = 2_000;
/// `status` has the counters of the last sweep.
const COUNT_LIMIT: Duration = Duration::from_secs(15);

/// Service `pair`, which has two backends.
pub fn with_two_backends(lab: &mut Lab) -> Result<()> {
    let backends = ["near", "far"].map(|name| lab.world.backend(name));
    let pair = Service {
        name: "pair".into(),
        cluster: service(14),
        node_port: 30_084,
        external: None,
        affinity: None,
        backends: backends.into_iter().collect::<Result<_>>()?,
    };
    lab.world.folder.write_service(&pair)?;
    lab.services.push(pair);
    Ok(())
}

fn idle_connections_go_on(lab: &mut Lab, way: Way) -> Result<()> {
    let topology = &lab.world.topology;
    let mut idle = Vec::new();
    for family in Family::BOTH {
        let to = lab.dialled(way, Target::ClusterIp("pair"), "near", family)?;
        for _ in 0..IDLE {
            // One request a second, and none in most of the burst.
            idle.push((to, topology.host("pod")?.agent.start_stream(to, 1)?));
        }
    }
    let first = Report::default();
    idle.iter().try_for_each(|(_, job)| until_more_than(&first, job, 1).map(drop))?;
    for family in Family::BOTH.into_iter().filter(|_| way != Way::Direct) {
        let to = lab.address(Target::NodePort("near"), family)?;
        topology.client.agent.time(Via::Tcp, to, BURST, Sockets::Fresh)?;
    }
    let before = idle.iter().map(|(_, job)| job.look()).collect::<Result<Vec<_>>>()?;
    for ((to, job), before) in idle.iter().zip(before) {
        let report = until_more_than(&before, job, 2)?;
        ensure!(report.failed == 0, "{to}: {report:?}");
    }
    Ok(())
}

/// With one client the server could tell from the timestamps that a SYN is new.
const CLIENTS: [Addrs; 4] = [client(9), client(91), client(92), client(93)];
/// Connections of each client, which the server closes first.
const CONNECTIONS: usize = 500;

const fn client(last: u8) -> Addrs {
    Addrs {
        v4: std::net::Ipv4Addr::new(192, 0, 2, last),
        v6: std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last as u16),
    }
}

/// A server in TIME_WAIT acknowledges the SYN of another connection, which the client resets.
fn no_server_in_time_wait(lab: &mut Lab, way: Way) -> Result<()> {
    // Connections of the variant before leave none in that state.
    let server = &lab.world.topology.host("far")?.netns;
    command::run(server.command("ss")?.args(["--kill", "--tcp", "state", "time-wait"]))?;
    let before = resets_sent(lab)?;
    for family in Family::BOTH {
        let to = lab.dialled(way, Target::NodePort("far"), "far", family)?;
        let probes = CLIENTS.map(|from| Probe {
            via: Via::Http,
            from: Some(from.of(family)),
            to: vec![to],
            tries: CONNECTIONS,
        });
        for tried in lab.world.topology.client.agent.probe(probes.to_vec())?.concat() {
            ensure!(matches!(tried, Tried::Answered(_)), "{to}: {tried:?}");
        }
    }
    let resets = resets_sent(lab)? - before;
    ensure!(resets == 0, "the client has reset {resets} times");
    Ok(())
}

/// `OutRsts` of RFC 4022, of both families.
fn resets_sent(lab: &Lab) -> Result<u64> {
    let text = command::run(lab.world.topology.client.netns.command("cat")?.arg("/proc/net/snmp"))?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let (_, value) = names.zip(values).find(|(name, _)| *name == "OutRsts").context("no OutRsts")?;
    Ok(value.parse()?)
}
