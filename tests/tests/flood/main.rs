//! The flood tier: packets that begin flows come as fast as one core can send them, from false addresses, while connections of
//! every kind are open. No connection may be lost, and new ones must succeed.

mod clients;
mod frames;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::{Arguments, Trial};
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options};
use svc_tests::{agent, cleanup};

use clients::{Client, Honest, lost, tuples};
use frames::{Kind, Link, mac_of};

/// Open connections and datagram sockets of one client, family and frontend. There are six of these.
const CONNECTIONS: usize = 334;
const SOCKETS: usize = 84;
/// Length of each flood.
const LENGTH: Duration = Duration::from_secs(3);
/// A new connection is answered in this time: a lost SYN is repeated after one second.
const NEW_LIMIT: Duration = Duration::from_secs(3);
/// Records of the flow table: a second of an unlimited flood fills it.
const FLOW_TABLE: &str = "65536";
/// Octets by which a daemon may grow meanwhile: answers to the test itself.
const GROWTH: u64 = 16 << 20;
/// The false addresses, of which the last two octets vary, and the route to them.
const FALSE: [(&str, &str); 2] = [("198.18.0.0", "198.18.0.0/16"), ("2001:db8:f::", "2001:db8:f::/48")];

fn main() -> ExitCode {
    agent::maybe_run();
    let arguments = Arguments::from_args();
    let trials = trials();
    if !arguments.list {
        cleanup::sweep();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trials() -> Vec<Trial> {
    let testbed = |test: &str| -> Result<Testbed> {
        let mut testbed = Testbed::without_svc(test, Options::default())?;
        testbed.set_backends(&["far", "node2"])?;
        testbed.world.start_with(Flags::default(), &["--flow-table-size", FLOW_TABLE])?;
        Ok(testbed)
    };
    vec![scenario("a flood ends no connection, and new ones succeed", testbed, flooded)]
}

fn flooded(testbed: &mut Testbed) -> Result<()> {
    route_false_addresses(testbed)?;
    let mut clients = open(testbed)?;
    let before = flows(testbed)?;
    let (evicted, size) = (evictions(testbed)?, resident(testbed)?);
    ensure!(before.len() >= 2 * clients.len(), "{} records of {} clients", before.len(), clients.len());
    println!("{} clients, {} records", clients.len(), before.len());
    for family in Family::BOTH {
        for kind in Kind::ALL {
            let (sent, honest) = under(testbed, kind, family, &mut clients)?;
            let rate = f64::from(sent) / LENGTH.as_secs_f64();
            println!(
                "{kind:?} {family:?}: {rate:.0} packets a second, {} of {} new connections",
                honest.answered, honest.tried
            );
            ensure!(
                honest.tried > 0 && 20 * honest.answered >= 19 * honest.tried,
                "{kind:?} {family:?}: {honest:?}"
            );
        }
    }
    let after = flows(testbed)?;
    let missing: Vec<_> = before.difference(&after).collect();
    let failed = lost(&mut clients);
    let evicted = evictions(testbed)? - evicted;
    let growth = resident(testbed)?.saturating_sub(size);
    println!(
        "{} records missing, {evicted} evicted, {} clients lost, {growth} octets more",
        missing.len(),
        failed.len()
    );
    ensure!(
        missing.is_empty(),
        "{} of {} records are missing: {:?}",
        missing.len(),
        before.len(),
        missing.first()
    );
    ensure!(failed.is_empty(), "{} of {} clients: {}", failed.len(), clients.len(), failed[0]);
    ensure!(growth < GROWTH, "the daemon grew by {growth} octets");
    Ok(())
}

/// Replies to the false addresses go to the client, who drops them.
fn route_false_addresses(testbed: &Testbed) -> Result<()> {
    let topology = &testbed.world.topology;
    for node in &topology.nodes {
        for (family, (_, route)) in Family::BOTH.into_iter().zip(FALSE) {
            let via = topology.client.addrs.of(family);
            node.host.netns.ip(&format!("route add {route} via {via}"))?;
        }
    }
    Ok(())
}

/// From outside to the NodePort, and from a pod to both frontends.
fn open(testbed: &Testbed) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for family in Family::BOTH {
        let frontends = [
            ("client", testbed.node_port(family)),
            ("pod", testbed.node_port(family)),
            ("pod", testbed.cluster_ip(family)),
        ];
        for (name, to) in frontends {
            let netns = &testbed.world.topology.host(name)?.netns;
            for _ in 0..CONNECTIONS {
                clients.push(Client::tcp(netns, to).with_context(|| format!("{name} dials {to}"))?);
            }
            for _ in 0..SOCKETS {
                clients.push(Client::udp(netns, to).with_context(|| format!("{name} asks {to}"))?);
            }
        }
    }
    Ok(clients)
}

/// One flood. Meanwhile every second client goes on, and new ones come from outside and from the pod.
fn under(testbed: &Testbed, kind: Kind, family: Family, clients: &mut [Client]) -> Result<(u32, Honest)> {
    let topology = &testbed.world.topology;
    let (outside, node) = (&topology.client.netns, &topology.node(1).host.netns);
    let link = Link {
        netns: outside,
        interface: "eth0",
        source: mac_of(outside, "eth0")?,
        destination: mac_of(node, "eth0")?,
    };
    let index = usize::from(family == Family::V6);
    let from: IpAddr = FALSE[index].0.parse()?;
    let to = testbed.node_port(family);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let sent = frames::send(kind, &link, from, to, LENGTH);
            is_over.store(true, Ordering::Relaxed);
            sent
        });
        let mut honest = Honest::default();
        let mut failed = Vec::new();
        let mut busy = clients.iter_mut().step_by(2);
        while !is_over.load(Ordering::Relaxed) {
            failed.extend(lost(busy.by_ref().take(20)));
            for (name, to) in [("client", to), ("pod", testbed.cluster_ip(family))] {
                honest.attempt(&topology.host(name)?.netns, to, NEW_LIMIT)?;
            }
        }
        let sent = flood.join().map_err(|_| anyhow!("the flood panicked"))??;
        ensure!(failed.is_empty(), "{kind:?} {family:?}: {} clients: {}", failed.len(), failed[0]);
        Ok((sent, honest))
    })
}

/// The records of assured flows on node1.
fn flows(testbed: &mut Testbed) -> Result<BTreeSet<String>> {
    let (node, daemon) = testbed.world.on_node(1)?;
    Ok(tuples(&daemon.get(node, "flows")?))
}

fn evictions(testbed: &mut Testbed) -> Result<u64> {
    let status = testbed.world.daemon(1)?.status()?;
    let of = |name: &str| status["counters"][name].as_u64().unwrap_or_default();
    Ok(of("flow_evicted_v4") + of("flow_evicted_v6"))
}

/// Resident memory of node1's daemon, in octets.
fn resident(testbed: &mut Testbed) -> Result<u64> {
    let pid = testbed.world.daemon(1)?.pid().context("the daemon does not run")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
