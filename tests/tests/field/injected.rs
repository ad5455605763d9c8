//! Packets that meet an open flow beside its own: segments outside of the window, resets, errors of routers.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, Icmpv6Type, IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader};
use socket2::{Domain, Protocol, Socket, Type};
use svc_tests::agent::Via;
use svc_tests::command;
use svc_tests::netns::Netns;
use svc_tests::testbed::{no_failure, until_more};
use svc_tests::topology::Family;
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::case::{Case, Row, Target, Way};
use crate::lab::Lab;
use crate::outgoing::with_only_port;

const BACKENDS: [&str; 2] = ["near", "far"];
type Segment = PacketBuilderStep<TcpHeader>;
/// No window begins there but by a chance of one in 65,000.
const SEQUENCE: u32 = 0x1234_5678;
const TTL: u8 = 64;
/// The client's source ports in R45. Each variant and family has its own, because conntrack knows those before.
const SOURCE_PORTS: u16 = 21_000;
/// MTU of a router between node1 and the client.
const NARROW: u16 = 1_300;

pub fn cases() -> Vec<Case> {
    let rows = || BACKENDS.map(|name| Row::answered("client", Target::NodePort(name), name)).to_vec();
    vec![
        Case {
            prepare: |lab| lab.forward_all(),
            each: Some(("open connections go on after such a segment of the backend", |lab, way| {
                goes_on_after(lab, way, |segment| segment.ack(SEQUENCE))
            })),
            ..Case::new("R40", "a segment outside of the window ends no connection (SEM-089)", rows())
        },
        Case {
            prepare: |lab| lab.forward_all(),
            each: Some(("open connections go on after such a reset of the backend", |lab, way| {
                goes_on_after(lab, way, Segment::rst)
            })),
            also: Some(("the flows of these connections are not taken for reset", no_flow_is_reset)),
            ..Case::new("R44", "a reset outside of the window ends no connection (SEM-089)", rows())
        },
        Case {
            each: Some(("the backend learns the MTU of a router between node1 and the client", learns_mtu)),
            ..Case::new(
                "R45",
                "the ICMP error \"too big\" of a router reaches the backend (SEM-079)",
                vec![Row::answered("client", Target::NodePort("near"), "near")],
            )
        },
    ]
}

fn goes_on_after(lab: &mut Lab, way: Way, kind: fn(Segment) -> Segment) -> Result<()> {
    let mut connections = Vec::new();
    for server in BACKENDS {
        for family in Family::BOTH {
            let dialled = lab.dialled(way, Target::NodePort(server), server, family)?;
            let job = lab.world.topology.client.agent.start_stream(dialled, 20)?;
            no_failure(&dialled.to_string(), &until_more(&job, 1)?)?;
            let (own, peer) = connection(&lab.world.topology.host(server)?.netns, family)?;
            let segment = kind(headers(own.ip(), peer.ip())?.tcp(own.port(), peer.port(), SEQUENCE, 1_000));
            connections.push((server, dialled, job, peer, segment));
        }
    }
    let mut jobs = Vec::new();
    for (server, dialled, job, peer, segment) in connections {
        let mut octets = Vec::new();
        segment.write(&mut octets, b"stray")?;
        send(&lab.world.topology.host(server)?.netns, peer.ip(), &octets)?;
        jobs.push((dialled, job));
    }
    for (dialled, job) in jobs {
        until_more(&job, 5)?;
        no_failure(&dialled.to_string(), &job.stop()?)?;
    }
    Ok(())
}

/// The addresses of the only open connection of a server.
fn connection(server: &Netns, family: Family) -> Result<(SocketAddr, SocketAddr)> {
    let option = if family == Family::V4 { "-4" } else { "-6" };
    let mut ss = server.command("ss")?;
    ss.args([option, "-Hnt", "state", "established"]);
    wait::until("the server has one connection", CHANGE_LIMIT, || {
        let shown = command::run(&mut ss)?;
        let lines: Vec<_> = shown.lines().collect();
        let [line] = lines[..] else { bail!("it has {lines:?}") };
        let mut ends = line.split_whitespace().skip(2).map(str::parse);
        let (own, peer) = (ends.next().context("no address")??, ends.next().context("no peer")??);
        Ok(Some((own, peer)))
    })
}

fn headers(from: IpAddr, to: IpAddr) -> Result<PacketBuilderStep<IpHeaders>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok(PacketBuilder::ipv4(from.octets(), to.octets(), TTL)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok(PacketBuilder::ipv6(from.octets(), to.octets(), TTL)),
        _ => bail!("{from} and {to} are of two families"),
    }
}

/// Sends a packet with its own IP header.
fn send(from: &Netns, to: IpAddr, packet: &[u8]) -> Result<()> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket =
        from.within(|| Ok(Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?))?;
    socket.send_to(packet, &SocketAddr::new(to, 0).into()).context("send a packet")?;
    Ok(())
}

/// Once both sides have gone on, `svc-ctl flows` calls the reset ignored.
fn no_flow_is_reset(lab: &mut Lab) -> Result<()> {
    let (node, daemon) = lab.world.on_node(1)?;
    let flows = daemon.get(node, "flows")?.to_string();
    ensure!(flows.contains("ignored-reset"), "no flow has met a reset: {flows}");
    ensure!(!flows.contains(",reset"), "a flow counts as reset: {flows}");
    Ok(())
}

fn learns_mtu(lab: &mut Lab, way: Way) -> Result<()> {
    let topology = &lab.world.topology;
    let (client, near) = (&topology.client, topology.host("near")?);
    for (port, family) in (SOURCE_PORTS + 10 * (way as u16)..).zip(Family::BOTH) {
        let dialled = lab.dialled(way, Target::NodePort("near"), "near", family)?;
        let job = with_only_port(lab, "client", port, || {
            let job = client.agent.start_datagrams(Via::UdpConnected, dialled, 20)?;
            until_more(&job, 1)?;
            Ok(job)
        })?;
        let own = client.addrs.of(family);
        let mut quoted = Vec::new();
        headers(dialled.ip(), own)?.udp(dialled.port(), port).write(&mut quoted, &[0; 1_400])?;
        quoted.truncate(68);
        let mut error = Vec::new();
        let answer = headers(own, dialled.ip())?;
        match family {
            Family::V4 => {
                let kind = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: NARROW };
                answer.icmpv4(Icmpv4Type::DestinationUnreachable(kind)).write(&mut error, &quoted)?;
            }
            Family::V6 => {
                answer.icmpv6(Icmpv6Type::PacketTooBig { mtu: NARROW.into() }).write(&mut error, &quoted)?;
            }
        }
        send(&client.netns, dialled.ip(), &error)?;
        wait::until_true(&format!("the route of near to {own} is narrow"), CHANGE_LIMIT, || {
            let mut ip = near.netns.command("ip")?;
            let route = command::run(ip.args(["route", "get", &own.to_string()]))?;
            ensure!(route.contains(&format!("mtu {NARROW}")), "it is {route}");
            Ok(true)
        })?;
        until_more(&job, 3)?;
        no_failure(&dialled.to_string(), &job.stop()?)?;
        near.netns.ip_of(family, "route flush cache")?;
    }
    Ok(())
}
