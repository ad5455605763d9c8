//! LoadBalancer Services without a cloud: an address of a pool, the node that answers for it, and its successor.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::manifests::SERVICE_PORT;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Addrs, Family, Forwards, Options, Shape};
use svc_tests::{command, wait};

/// The one address of the pool in each family, on the network of the nodes and the client.
const VIP: Addrs =
    Addrs { v4: Ipv4Addr::new(192, 0, 2, 200), v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x200) };
const CONFIGURATION: &str = "apiVersion: svc/v1alpha1\nkind: SvcConfiguration\nloadBalancer:\n  pools:\n  \
    - {name: front, addresses: [192.0.2.200/32, \"2001:db8:1::200/128\"]}\n";
/// A move of an address takes two seconds of heartbeats and three probes; this is for slow machines.
const MOVE_LIMIT: Duration = Duration::from_secs(20);

/// The minute for which an address is left to programs without a daemon, and time for slow machines.
const SUCCESSOR_LIMIT: Duration = Duration::from_secs(120);

pub fn trials() -> Vec<Trial> {
    let lasting = scenario(
        "a LoadBalancer address whose node has no daemon is answered, and moves to the successor that speaks after a minute",
        |test| set(test, Options::default()),
        outlived,
    );
    let moved = [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")]
        .into_iter()
        .map(|(shape, name)| {
            let options = Options { shape, forwards: Forwards::OfPods, ..Options::default() };
            scenario(
                &format!(
                    "{name}: a LoadBalancer Service is dialled at its address, without the daemon too, and after its node is cut off (SEM-314)"
                ),
                move |test| set(&format!("{test} {name}"), options),
                act,
            )
        });
    moved.chain([lasting]).collect()
}

fn set(test: &str, options: Options) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, options)?;
    write(&testbed, &["near", "far"])?;
    let file = testbed.world.dir().join("config.conf");
    fs::write(&file, CONFIGURATION)?;
    let file = file.display().to_string();
    testbed.world.start_with(Flags::default(), &["--config", &file, "--node-heartbeat", "7946"])?;
    Ok(testbed)
}

/// The Service with these endpoints.
fn write(testbed: &Testbed, backends: &[&str]) -> Result<()> {
    let manifest = testbed.manifest(backends)?.replace("type: NodePort", "type: LoadBalancer");
    testbed.world.folder.write("web.yaml", &manifest)
}

fn act(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        let address = VIP.of(family);
        write(testbed, &["near", "far"])?;
        dialled(testbed, address).context("at first")?;
        let owner = owner(testbed, address)?;
        let other = 3 - owner;
        eprintln!("{address}: node{owner} answers");
        is_strict(testbed, owner, address)?;
        if family == Family::V6 {
            membership(testbed, owner, true)?;
            membership(testbed, other, false)?;
        }

        testbed.world.daemon(owner)?.kill()?;
        if family == Family::V6 {
            membership(testbed, owner, true).context("without the daemon")?;
        }
        forget(testbed, address)?;
        dialled(testbed, address).context("without the daemon")?;
        ensure!(self::owner(testbed, address)? == owner, "another node answers while the daemon is away");
        testbed.world.restart(owner)?;

        // Only the endpoint of the other node is left, so that the case measures the move of the address.
        write(testbed, &[if other == 1 { "near" } else { "far" }])?;
        dialled(testbed, address).context("before the cut")?;
        link(testbed, owner, "down")?;
        let cut = Instant::now();
        wait::until_true("the successor answers", MOVE_LIMIT, || Ok(ask(testbed, address).is_ok()))?;
        eprintln!("{address}: moved from node{owner} to node{other} in {} ms", cut.elapsed().as_millis());
        ensure!(self::owner(testbed, address)? == other, "another node answers");
        wait::until_true("the node that was cut off answers no longer", MOVE_LIMIT, || {
            Ok(reported_owner(testbed, owner, address)? != Some(format!("node{owner}")))
        })?;

        link(testbed, owner, "up")?;
        let names = format!("node{other}");
        wait::until_true("both nodes name the successor", MOVE_LIMIT, || {
            Ok(reported_owner(testbed, 1, address)?.as_ref() == Some(&names)
                && reported_owner(testbed, 2, address)?.as_ref() == Some(&names))
        })?;
        forget(testbed, address)?;
        dialled(testbed, address).context("after the node is back")?;
        ensure!(self::owner(testbed, address)? == other, "the node that came back took the address");
        if family == Family::V6 {
            membership(testbed, other, true).context("after the move")?;
            membership(testbed, owner, false).context("after the move")?;
        }
    }
    Ok(())
}

fn outlived(testbed: &mut Testbed) -> Result<()> {
    let addresses = Family::BOTH.map(|family| VIP.of(family));
    let mut owners = Vec::new();
    for address in addresses {
        dialled(testbed, address).context("at first")?;
        owners.push((address, owner(testbed, address)?));
    }
    for node in [1, 2] {
        let own: Vec<IpAddr> =
            owners.iter().filter(|(_, owner)| *owner == node).map(|(address, _)| *address).collect();
        if own.is_empty() {
            continue;
        }
        testbed.world.daemon(node)?.kill()?;
        let died = Instant::now();
        for address in &own {
            forget(testbed, *address)?;
            dialled(testbed, *address).context("without the daemon")?;
            ensure!(owner(testbed, *address)? == node, "{address}: node{node} is silent without its daemon");
        }
        for address in &own {
            wait::until_true("the successor's announcement reaches the client", SUCCESSOR_LIMIT, || {
                ask(testbed, *address)?;
                Ok(owner(testbed, *address)? == 3 - node)
            })?;
            eprintln!("{address}: moved {} s after the daemon of node{node} died", died.elapsed().as_secs());
            // The programs of the dead daemon would answer as fast as the successor's.
            for _ in 0..10 {
                forget(testbed, *address)?;
                dialled(testbed, *address).context("at the successor")?;
                ensure!(owner(testbed, *address)? == 3 - node, "{address}: node{node} still answers");
            }
        }
        testbed.world.restart(node)?;
    }
    Ok(())
}

fn ask(testbed: &Testbed, address: IpAddr) -> Result<()> {
    testbed.agent("client")?.ask(Via::Tcp, SocketAddr::new(address, SERVICE_PORT), 1).map(drop)
}

fn dialled(testbed: &Testbed, address: IpAddr) -> Result<()> {
    wait::until_true(&format!("{address} is answered"), MOVE_LIMIT, || ask(testbed, address).map(|()| true))
}

/// No interface of the node has the address, and the node's reverse path filter is strict.
fn is_strict(testbed: &Testbed, node: usize, address: IpAddr) -> Result<()> {
    let netns = &testbed.world.topology.node(node).host.netns;
    let local = command::run(netns.command("ip")?.args(["addr", "show", "to", &address.to_string()]))?;
    ensure!(local.is_empty(), "node{node} has the address: {local}");
    netns.within(|| {
        for interface in ["all", "eth0"] {
            let filter = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"))?;
            ensure!(filter.trim() == "1", "{interface}: rp_filter is {filter}");
        }
        Ok(())
    })
}

/// Waits until the node is a member of the solicited-node group of the IPv6 address, or is none.
fn membership(testbed: &Testbed, node: usize, expected: bool) -> Result<()> {
    let netns = &testbed.world.topology.node(node).host.netns;
    let what = format!("node{node} is a member of the group of {}: {expected}", VIP.v6);
    wait::until_true(&what, MOVE_LIMIT, || {
        let text = command::run(netns.command("ip")?.args(["maddr", "show", "dev", "eth0"]))?;
        Ok(text.contains("33:33:ff:00:02:00") == expected)
    })
}

/// The node whose link-layer address the client has for the address.
fn owner(testbed: &Testbed, address: IpAddr) -> Result<usize> {
    let topology = &testbed.world.topology;
    let mut neighbor = topology.client.netns.command("ip")?;
    let text = command::run(neighbor.args(["-j", "neigh", "show", &address.to_string()]))?;
    let entries: Value = serde_json::from_str(&text)?;
    let mac = entries[0]["lladdr"].as_str().with_context(|| format!("no neighbor: {text}"))?;
    for node in [1, 2] {
        let mut link = topology.node(node).host.netns.command("ip")?;
        let text = command::run(link.args(["-j", "link", "show", "eth0"]))?;
        if serde_json::from_str::<Value>(&text)?[0]["address"] == *mac {
            return Ok(node);
        }
    }
    anyhow::bail!("{mac} is no node's")
}

fn forget(testbed: &Testbed, address: IpAddr) -> Result<()> {
    testbed.world.topology.client.netns.ip(&format!("neigh del {address} dev eth0"))
}

/// The port of the switch to a node.
fn link(testbed: &Testbed, node: usize, state: &str) -> Result<()> {
    testbed.world.topology.lan().ip(&format!("link set f-node{node} {state}"))
}

/// The owner that `svc-ctl lb` of a node names.
fn reported_owner(testbed: &mut Testbed, node: usize, address: IpAddr) -> Result<Option<String>> {
    let (host, daemon) = testbed.world.on_node(node)?;
    let mut lb = host.host.command(daemon.binary())?;
    let text = command::run(lb.args(["lb", "-o", "json", "--run-dir"]).arg(daemon.run_dir()))?;
    let report: Value = serde_json::from_str(&text)?;
    let rows = report["addresses"].as_array().context("no addresses")?;
    let row = rows.iter().find(|row| row["address"] == address.to_string()).context("not this address")?;
    Ok(row["owner"].as_str().map(str::to_owned))
}
