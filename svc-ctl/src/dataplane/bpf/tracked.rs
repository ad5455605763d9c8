//! Connections that are older than a frontend keep conntrack's translation (SEM-079).
//!
//! nf_conntrack decides at a connection's first packet. So when a frontend begins, a connection that it translates
//! already goes on past the frontend: a masqueraded one whose source port is the new NodePort, and one that
//! kube-proxy translated. A ClusterIP that begins while svc serves others has no such connections, and conntrack, which
//! may know hundreds of thousands, is not read for it. Datagrams that kube-proxy translated are left to svc, because nf_conntrack would send them
//! to an endpoint that is gone for as long as the client sends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::{HashMap, MapData};
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};

use super::queues::frontend_key;
use crate::dataplane::conntrack::{self, Direction, Tracked};
use crate::dataplane::encode;
use crate::dataplane::flows::now;
use crate::dataplane::maps::{Maps, by_aya};
use crate::plan::tables::{Frontend, FrontendEntry, MapOp};

/// Stores connections that go past the frontends that begin with these ops.
pub fn keep(maps: &Maps, ops: &[MapOp]) -> anyhow::Result<()> {
    let frontends = ops.iter().filter_map(|op| match op {
        MapOp::PutFrontend(frontend, entry) => Some((frontend, entry)),
        _ => None,
    });
    if frontends.clone().next().is_none() || !conntrack::has_connections() {
        return Ok(());
    }
    let is_first = maps.v4.frontends.keys().next().is_none() && maps.v6.frontends.keys().next().is_none();
    let may_be_met = |(frontend, entry): &(&Frontend, &FrontendEntry)| {
        is_first || (entry.flags.has(FrontendFlags::EXTERNAL) && !is_present(maps, frontend))
    };
    let begins: BTreeSet<Frontend> = frontends.filter(may_be_met).map(|(frontend, _)| *frontend).collect();
    if begins.is_empty() {
        return Ok(());
    }
    let mut kept = Vec::new();
    conntrack::each(|tracked| kept.extend(past(&begins, &tracked)))?;
    if kept.is_empty() {
        return Ok(());
    }
    let mut v4: HashMap<MapData, _, u32> = by_aya(&maps.set, names::BYPASS4)?;
    let mut v6: HashMap<MapData, _, u32> = by_aya(&maps.set, names::BYPASS6)?;
    for direction in &kept {
        match (direction.src.ip(), direction.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                v4.insert(key(direction, encode::v4(src), encode::v4(dst)), now(), 0)?;
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                v6.insert(key(direction, encode::v6(src), encode::v6(dst)), now(), 0)?;
            }
            _ => {}
        }
    }
    tracing::info!(connections = kept.len(), "connections that are older than their frontends go past them");
    Ok(())
}

fn is_present(maps: &Maps, frontend: &Frontend) -> bool {
    match frontend.addr {
        IpAddr::V4(a) => maps.v4.frontends.get(&frontend_key(frontend, encode::v4(a)), 0).is_ok(),
        IpAddr::V6(a) => maps.v6.frontends.get(&frontend_key(frontend, encode::v6(a)), 0).is_ok(),
    }
}

/// The direction of the connection that would meet one of the frontends, if conntrack translates it.
fn past(begins: &BTreeSet<Frontend>, tracked: &Tracked) -> Option<Direction> {
    let Tracked { original, reply, has_source_nat, has_destination_nat } = tracked;
    let is_met = |direction: &Direction| {
        let (port, proto) = (direction.dst.port(), direction.proto);
        let unspecified = match direction.dst.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        [(direction.dst.ip(), Scope::ADDRESS), (unspecified, Scope::NODE_PORT)]
            .into_iter()
            .any(|(addr, scope)| begins.contains(&Frontend { addr, port, proto, scope }))
    };
    if *has_source_nat && is_met(reply) {
        return Some(*reply);
    }
    (*has_destination_nat && original.proto != Proto::UDP && is_met(original)).then_some(*original)
}

fn key<A: MapAddr>(direction: &Direction, src: A, dst: A) -> FlowKey<A> {
    let (sport, dport) = (Port::new(direction.src.port()), Port::new(direction.dst.port()));
    FlowKey { src, dst, sport, dport, proto: direction.proto, _pad: [0; 3] }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const POD: ([u8; 4], u16) = ([10, 244, 1, 10], 31777);
    const NODE: ([u8; 4], u16) = ([192, 0, 2, 1], 31777);
    const SERVER: ([u8; 4], u16) = ([192, 0, 2, 9], 443);
    const CLUSTER_IP: ([u8; 4], u16) = ([10, 96, 0, 10], 80);
    const BACKEND: ([u8; 4], u16) = ([10, 244, 2, 10], 8080);

    fn direction(src: ([u8; 4], u16), dst: ([u8; 4], u16), proto: Proto) -> Direction {
        Direction { src: SocketAddr::from(src), dst: SocketAddr::from(dst), proto }
    }

    fn frontends(proto: Proto) -> BTreeSet<Frontend> {
        let at = |addr: [u8; 4], port, scope| Frontend { addr: IpAddr::from(addr), port, proto, scope };
        [at([0; 4], NODE.1, Scope::NODE_PORT), at(CLUSTER_IP.0, CLUSTER_IP.1, Scope::ADDRESS)].into()
    }

    #[test]
    fn a_masqueraded_connection_from_a_node_port_goes_past_it_sem_079() {
        for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
            let (original, reply) = (direction(POD, SERVER, proto), direction(SERVER, NODE, proto));
            let masqueraded = Tracked { original, reply, has_source_nat: true, has_destination_nat: false };
            assert_eq!(past(&frontends(proto), &masqueraded), Some(reply));
            let plain = Tracked { has_source_nat: false, ..masqueraded };
            assert_eq!(past(&frontends(proto), &plain), None);
            assert_eq!(past(&BTreeSet::new(), &masqueraded), None);
        }
    }

    #[test]
    fn a_connection_that_kube_proxy_translates_goes_past_its_frontend_and_a_datagram_does_not_sem_079() {
        for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
            for dialled in [CLUSTER_IP, NODE] {
                let (original, reply) =
                    (direction(SERVER, dialled, proto), direction(BACKEND, SERVER, proto));
                let translated =
                    Tracked { original, reply, has_source_nat: false, has_destination_nat: true };
                let expected = (proto != Proto::UDP).then_some(original);
                assert_eq!(past(&frontends(proto), &translated), expected);
            }
        }
    }
}
