//! Paths without an Ethernet header, like WireGuard's and IPIP's: to the backend's node, and to the client.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};
use svc_tests::agent::Via;
use svc_tests::command;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Between, Family, Offloads, Options};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

const VIAS: [Via; 3] = [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected];
/// Octets in each direction: more than one segment.
const BULK: usize = 1 << 18;
/// `status` has the counters of the last sweep.
const COUNTERS_LIMIT: Duration = Duration::from_secs(15);

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (xdp, offloads) in [("off", Offloads::Default), ("native", Offloads::ForXdp)] {
        let options = Options { offloads, between: Between::Tunnel, ..Options::default() };
        let testbed = move |test: &str| {
            Testbed::new(&format!("{test} {xdp}"), options, Flags { xdp, ..Flags::default() }, &["far"])
        };
        let sentence = format!("XDP {xdp}: a backend behind a device without Ethernet header is reached");
        trials.push(scenario(&sentence, testbed, backend_behind));
        let sentence = format!("XDP {xdp}: a client behind a device without Ethernet header is served");
        trials.push(scenario(&sentence, testbed, client_behind));
        let sentence = format!("XDP {xdp}: a client behind a device without Ethernet header is refused");
        trials.push(scenario(&sentence, testbed, client_refused));
        let sentence =
            format!("XDP {xdp}: packets that are none, from a device without Ethernet header, harm no other");
        trials.push(scenario(&sentence, testbed, garbage));
    }
    trials
}

fn backend_behind(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        let (cluster_ip, node_port) = (testbed.cluster_ip(family), testbed.node_port(family));
        let ways = [("client", node_port), ("pod", node_port), ("pod", cluster_ip), ("node1", node_port)];
        for (client, to) in ways {
            for via in VIAS {
                let answer = testbed.answered_by("far", client, via, to);
                answer.with_context(|| format!("{client} {via} {to}"))?;
            }
            let done = testbed.agent(client)?.bulk(Via::Tcp, to, BULK);
            done.with_context(|| format!("bulk: {client} {to}"))?;
        }
    }
    senders_got_errors(testbed)
}

/// Segments were too large for the tunnel between the nodes, and their senders got ICMP errors.
fn senders_got_errors(testbed: &mut Testbed) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    wait::until_true("senders get ICMP errors with the tunnel's MTU", COUNTERS_LIMIT, || {
        let status = daemon.ask_status(node)?;
        let count = status["counters"]["reject_too_big"].as_u64().unwrap_or(0);
        ensure!(count > 0, "{}", status["counters"]);
        Ok(true)
    })
}

fn client_behind(testbed: &mut Testbed) -> Result<()> {
    testbed.world.topology.client_by_tunnel()?;
    for server in ["far", "near", "node1", "node2"] {
        testbed.set_backends(&[server])?;
        for family in Family::BOTH {
            for to in [testbed.node_port(family), testbed.cluster_ip(family)] {
                testbed.soon_answered_by(server, "client", to)?;
                for via in VIAS {
                    let answer = testbed.answered_by(server, "client", via, to);
                    answer.with_context(|| format!("{via} {to}, served by {server}"))?;
                }
                let done = testbed.agent("client")?.bulk(Via::Tcp, to, BULK);
                done.with_context(|| format!("bulk: {to}, served by {server}"))?;
            }
        }
    }
    senders_got_errors(testbed)
}

fn client_refused(testbed: &mut Testbed) -> Result<()> {
    testbed.world.topology.client_by_tunnel()?;
    for family in Family::BOTH {
        testbed.soon_answered_by("far", "client", testbed.node_port(family))?;
    }
    testbed.set_backends(&[])?;
    for family in Family::BOTH {
        for to in [testbed.node_port(family), testbed.cluster_ip(family)] {
            for via in [Via::UdpConnected, Via::Tcp] {
                wait::until_true("the client is refused", CHANGE_LIMIT, || {
                    let refusal = testbed.agent("client")?.refused(via, to)?;
                    ensure!(refusal.errno == libc::ECONNREFUSED, "{via} {to}: {refusal:?}");
                    Ok(true)
                })?;
            }
        }
    }
    Ok(())
}

/// They begin like IP, or not, and are cut off or say a wrong length.
const GARBAGE: [&[u8]; 8] =
    [&[0x45], &[0x60], &[0x4f; 20], &[0x45; 19], &[0x45; 60], &[0x60; 39], &[0x60; 80], &[0xf0; 40]];

/// Each request is answered while the other end of the tunnel sends garbage, which the node's stack counts.
fn garbage(testbed: &mut Testbed) -> Result<()> {
    testbed.world.topology.client_by_tunnel()?;
    let counted = |testbed: &Testbed| -> Result<u64> {
        let node = &testbed.world.topology.node(1).host.netns;
        let text = command::run(node.command("nstat")?.args([
            "-asz",
            "IpInHdrErrors",
            "Ip6InHdrErrors",
            "IpInTruncatedPkts",
            "Ip6InTruncatedPkts",
        ]))?;
        let numbers = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        Ok(numbers.sum())
    };
    let before = counted(testbed)?;
    for packet in GARBAGE {
        testbed.world.topology.client.netns.within(|| send_as_it_is("tun0", packet))?;
        for family in Family::BOTH {
            for to in [testbed.node_port(family), testbed.cluster_ip(family)] {
                for via in VIAS {
                    let answer = testbed.answered_by("far", "client", via, to);
                    answer.with_context(|| format!("{via} {to} after {packet:02x?}"))?;
                }
            }
        }
    }
    let counted = counted(testbed)? - before;
    ensure!(counted > 0, "the node has met no garbage");
    Ok(())
}

/// Sends octets by an interface of this thread's network namespace, without a header of any layer.
fn send_as_it_is(interface: &str, octets: &[u8]) -> Result<()> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    // With the protocol number 0 the socket receives nothing.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll fits into the storage, and any octets are a valid one.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the family is AF_PACKET and the length that of its address.
    let to = unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    socket.send_to(octets, &to).with_context(|| format!("send {octets:02x?} by {interface}"))?;
    Ok(())
}
