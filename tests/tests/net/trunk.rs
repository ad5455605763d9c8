//! The testbed of VLANs: a network of tagged frames and one of untagged frames on the same wire.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svc_tests::daemon::{Flags, Source};
use svc_tests::testbed::Testbed;
use svc_tests::topology::{
    Addrs, Family, Host, Offloads, Options, SERVICE_CIDR_V4, SERVICE_CIDR_V6, Topology,
};
use svc_tests::world::READY_LIMIT;
use svc_tests::{command, wait};

/// Id of the VLAN, and its interface on every host.
const NUMBER: u16 = 100;
pub const INTERFACE: &str = "eth0.100";

/// One of the two networks on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WireNetwork {
    Untagged,
    Vlan,
}

/// Place of the tag when the frame arrives at the lower interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tag {
    /// In the skb: the card has removed it from the frame, and XDP does not see it.
    Beside,
    InFrame,
}

pub fn trunk(test: &str, xdp: &'static str) -> Result<Testbed> {
    let offloads = if xdp == "off" { Offloads::Default } else { Offloads::ForXdp };
    let mut testbed = Testbed::without_svc(test, Options { offloads, ..Options::default() })?;
    let topology = &testbed.world.topology;
    for host in hosts(topology) {
        let Addrs { v4, v6 } = address(host, WireNetwork::Vlan);
        host.netns.ip(&format!(
            "link add link eth0 name {INTERFACE} type vlan id {NUMBER}\n\
             addr add {v4}/24 dev {INTERFACE}\naddr add {v6}/64 dev {INTERFACE} nodad\nlink set {INTERFACE} up"
        ))?;
        // Packets from the wrong network are dropped. The client is filtered by its own address, because a ClusterIP
        // belongs to no network.
        let whose = if host.name() == "client" { "daddr" } else { "saddr" };
        host.netns.nft(&lanes(whose))?;
    }
    serve(&mut testbed, Flags { xdp, ..Flags::default() })?;
    let (_, daemon) = testbed.world.on_node(1)?;
    wait::until_true(&format!("{INTERFACE} is served"), READY_LIMIT, || {
        let status = daemon.status()?;
        let hooks = hooks(&status, INTERFACE)?;
        ensure!(hooks.len() >= 2, "{hooks:?}");
        Ok(true)
    })?;
    Ok(testbed)
}

/// On node1 only, which all clients dial: an emulated machine starts daemons slowly.
fn serve(testbed: &mut Testbed, flags: Flags) -> Result<()> {
    testbed.set_backends(&["near"])?;
    let source = Source::Manifests(testbed.world.folder.path().into());
    testbed.world.start_next(source, flags)?;
    testbed.world.ready(1)
}

/// From now on all frames have tags.
pub fn put_tags(testbed: &Testbed, tag: Tag) -> Result<()> {
    let topology = &testbed.world.topology;
    hosts(topology).into_iter().try_for_each(|host| {
        // The sender writes the tag into the frame, or leaves that to the card, which a veth pair does not have.
        host.netns.offload("eth0", "txvlan", tag == Tag::Beside)?;
        topology.lan().offload(&format!("f-{}", host.name()), "txvlan", tag == Tag::Beside)
    })
}

/// The client reaches node1 by an interface that tags with id 0, which is no VLAN (IEEE 802.1Q); replies have no tag.
pub fn prioritised(test: &str) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, Options::default())?;
    let topology = &testbed.world.topology;
    let node = &topology.node(1).host;
    let links = command::run(node.netns.command("ip")?.args(["-json", "link", "show", "eth0"]))?;
    let links: Value = serde_json::from_str(&links)?;
    let mac = links[0]["address"].as_str().context("node1 has no MAC")?;
    let (Addrs { v4, v6 }, own) = (node.addrs, topology.client.addrs);
    topology.client.netns.ip(&format!(
        "link add link eth0 name eth0.0 type vlan id 0 egress-qos-map 0:5\nlink set eth0.0 up\n\
         route add {v4}/32 dev eth0.0 src {}\nneigh add {v4} lladdr {mac} dev eth0.0 nud permanent\n\
         route add {v6}/128 dev eth0.0 src {}\nneigh add {v6} lladdr {mac} dev eth0.0 nud permanent",
        own.v4, own.v6
    ))?;
    // Frames that still have the tag arrive at an interface where they are dropped.
    let other = &topology.node(2).host.netns;
    other.ip("link add link eth0 name eth0.0 type vlan id 0\nlink set eth0.0 up")?;
    other.nft(
        "table inet lanes {
            chain in {
                type filter hook prerouting priority raw;
                iifname eth0.0 meta l4proto { tcp, udp } drop
            }
        }",
    )?;
    serve(&mut testbed, Flags::default())?;
    Ok(testbed)
}

fn hosts(topology: &Topology) -> [&Host; 3] {
    [&topology.client, &topology.node(1).host, &topology.node(2).host]
}

/// The host's address in a network; its last octet is the same in both.
fn address(host: &Host, network: WireNetwork) -> Addrs {
    let [.., last] = host.addrs.v4.octets();
    match network {
        WireNetwork::Untagged => host.addrs,
        WireNetwork::Vlan => Addrs {
            v4: Ipv4Addr::new(203, 0, 113, last),
            v6: Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, last.into()),
        },
    }
}

fn lanes(whose: &str) -> String {
    format!(
        "table inet lanes {{
            chain in {{
                type filter hook prerouting priority raw;
                iifname eth0 ip {whose} 203.0.113.0/24 drop
                iifname eth0 ip6 {whose} 2001:db8:3::/64 drop
                iifname {INTERFACE} ip {whose} 192.0.2.0/24 drop
                iifname {INTERFACE} ip6 {whose} 2001:db8:1::/64 drop
            }}
        }}"
    )
}

/// From now on node1 reaches the pods of node2 by that network.
pub fn route_between_nodes(testbed: &Testbed, network: WireNetwork) -> Result<()> {
    let topology = &testbed.world.topology;
    let (pods, via) = (topology.node(2).pod_cidrs(), address(&topology.node(2).host, network));
    topology.node(1).host.netns.ip(&format!(
        "route replace {}/24 via {}\nroute replace {}/64 via {}",
        pods.v4, via.v4, pods.v6, via.v6
    ))
}

pub fn node_port(testbed: &Testbed, network: WireNetwork, family: Family) -> SocketAddr {
    let port = testbed.node_port(family).port();
    (address(&testbed.world.topology.node(1).host, network).of(family), port).into()
}

/// The client reaches ClusterIPs and NodePorts through node1 by that network.
pub fn frontends(testbed: &Testbed, network: WireNetwork) -> Result<Vec<SocketAddr>> {
    let topology = &testbed.world.topology;
    let via = address(&topology.node(1).host, network);
    topology.client.netns.ip(&format!(
        "route replace {SERVICE_CIDR_V4} via {}\nroute replace {SERVICE_CIDR_V6} via {}",
        via.v4, via.v6
    ))?;
    let of = |family| [testbed.cluster_ip(family), node_port(testbed, network, family)];
    Ok(Family::BOTH.into_iter().flat_map(of).collect())
}

pub fn hooks<'a>(status: &'a Value, interface: &str) -> Result<Vec<&'a str>> {
    let all = status["interfaces"].as_array().context("a list of interfaces")?;
    let one = all.iter().find(|i| i["name"] == interface).with_context(|| format!("no {interface}"))?;
    Ok(one["hooks"].as_array().context("a list of hooks")?.iter().filter_map(Value::as_str).collect())
}
