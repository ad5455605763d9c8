//! Addresses of pools that no Service has: a router that sends them to a node does not get them back.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use svc_tests::agent::Via;
use svc_tests::command;
use svc_tests::daemon::Flags;
use svc_tests::manifests::SERVICE_PORT;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Addrs, Family, Options};
use svc_tests::wait;
use svc_tests::world::{CHANGE_LIMIT, READY_LIMIT};

/// The Service's addresses, of a network that the router sends to node1.
const VIP: Addrs =
    Addrs { v4: Ipv4Addr::new(203, 0, 113, 64), v6: Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0) };
const UNUSED: Addrs =
    Addrs { v4: Ipv4Addr::new(203, 0, 113, 66), v6: Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 2) };
const NETS: [&str; 2] = ["203.0.113.64/29", "2001:db8:64::/125"];

pub fn trials() -> Vec<Trial> {
    vec![scenario(
        "a packet from a router to an unused address of a pool is dropped and does not come back (SEM-315)",
        set,
        act,
    )]
}

fn set(test: &str) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, Options::default())?;
    let asks = format!(
        "metadata: {{name: web, namespace: default, annotations: {{svc/load-balancer-ips: \"{},{}\"}}}}",
        VIP.v4, VIP.v6
    );
    let manifest = testbed.manifest(&["near"])?.replace("type: NodePort", "type: LoadBalancer");
    let manifest = manifest.replace("metadata: {name: web, namespace: default}", &asks);
    testbed.world.folder.write("web.yaml", &manifest)?;
    route(&testbed)?;
    write_pools(&testbed, "")?;
    let file = file(&testbed);
    testbed.world.start_with(Flags::default(), &["--config", &file])?;
    Ok(testbed)
}

fn file(testbed: &Testbed) -> String {
    testbed.world.dir().join("config.conf").display().to_string()
}

fn write_pools(testbed: &Testbed, pools: &str) -> Result<()> {
    let text = format!(
        "apiVersion: svc/v1alpha1\nkind: SvcConfiguration\nloadBalancer: {{announce: none, pools: [{pools}]}}\n"
    );
    fs::write(file(testbed), text).context("write the configuration")
}

/// The client reaches the pool by the gateway of the network, which sends it to node1 and counts the datagrams that it sees.
fn route(testbed: &Testbed) -> Result<()> {
    let topology = &testbed.world.topology;
    let (lan, node) = (topology.lan(), topology.node(1).host.addrs);
    topology.client_by_gateway(NETS)?;
    lan.ip(&format!("route add {} via {}\nroute add {} via {}", NETS[0], node.v4, NETS[1], node.v6))?;
    lan.nft(&format!(
        "table inet seen {{
            counter datagrams {{ }}
            chain in {{
                type filter hook prerouting priority raw;
                ip daddr {} meta l4proto udp counter name datagrams
                ip6 daddr {} meta l4proto udp counter name datagrams
            }}
        }}",
        NETS[0], NETS[1]
    ))
}

fn act(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        let seen = times_seen(testbed, UNUSED.of(family))?;
        ensure!(seen > 1, "{family:?}: without pools the gateway sees its datagram {seen} times");
    }
    write_pools(testbed, &format!("{{name: front, addresses: [{}, \"{}\"]}}", NETS[0], NETS[1]))?;
    // The programs that were loaded without pools serve until others take their places.
    let address = UNUSED.of(Family::V4);
    wait::until_true("the programs drop", READY_LIMIT, || Ok(times_seen(testbed, address)? == 1))?;
    for family in Family::BOTH {
        let before = dropped(testbed)?;
        let seen = times_seen(testbed, UNUSED.of(family))?;
        ensure!(seen == 1, "{family:?}: the gateway sees the datagram {seen} times");
        wait::until_true("the drop is counted", CHANGE_LIMIT, || Ok(dropped(testbed)? > before))?;
        let vip = SocketAddr::new(VIP.of(family), SERVICE_PORT);
        testbed.answered_by("near", "client", Via::UdpConnected, vip)?;
        testbed.answered_by("near", "client", Via::Tcp, vip)?;
    }
    testbed.world.daemon(1)?.stop()?;
    testbed.world.restart(1)?;
    let seen_after = times_seen(testbed, address)?;
    ensure!(seen_after == 1, "after a restart the gateway sees the datagram {seen_after} times");
    // Pods may reach a host whose address is in a pool by mistake: the packet leaves by the gateway.
    for family in Family::BOTH {
        let before = seen(testbed)?;
        let to = SocketAddr::new(UNUSED.of(family), SERVICE_PORT);
        ensure!(testbed.agent("pod")?.ask(Via::UdpConnected, to, 1).is_err(), "a host answers at {to}");
        ensure!(seen(testbed)? > before, "{family:?}: the pod's datagram did not leave the node");
    }
    Ok(())
}

/// Number of times that the gateway sees one datagram of the client.
fn times_seen(testbed: &Testbed, address: IpAddr) -> Result<u64> {
    let before = seen(testbed)?;
    let to = SocketAddr::new(address, SERVICE_PORT);
    ensure!(testbed.agent("client")?.ask(Via::UdpConnected, to, 1).is_err(), "a host answers at {to}");
    Ok(seen(testbed)? - before)
}

fn dropped(testbed: &mut Testbed) -> Result<u64> {
    // A counter that never moved is not listed.
    Ok(testbed.world.daemon(1)?.status()?["counters"]["drop_unallocated"].as_u64().unwrap_or(0))
}

fn seen(testbed: &Testbed) -> Result<u64> {
    let mut nft = testbed.world.topology.lan().command("nft")?;
    let text = command::run(nft.args(["-j", "list", "counters"]))?;
    let listed: Value = serde_json::from_str(&text)?;
    let counters = listed["nftables"].as_array().context("no list")?;
    let packets = counters.iter().find_map(|entry| entry["counter"]["packets"].as_u64());
    packets.with_context(|| format!("no counter: {text}"))
}
