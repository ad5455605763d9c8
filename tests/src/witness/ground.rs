//! The hosts of a side and their ways to each other, as they are before any proxy comes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::service::Place;
use crate::agent::Agent;
use crate::manifests::{SERVER_PORT, SERVICE_PORT};
use crate::netns::Netns;
use crate::topology::{Addrs, Host, Node, Topology};

/// `pod` and `far` are clients, the others servers; those of `a` are on node1, those of `b` on node2.
pub const PODS: [(usize, &str); 7] =
    [(1, "pod"), (1, "a1"), (1, "a2"), (1, "a3"), (2, "far"), (2, "b1"), (2, "b2")];
/// A node's interface towards the hub.
pub const LINK: &str = "api0";

/// The client by another address.
pub const STRANGER: &str = "stranger";
pub const STRANGERS_ADDRS: Addrs = on_front(201);
/// node1 by an address that is not its InternalIP.
const ALTERNATIVE: (&str, Addrs) = ("node1-alt", on_front(101));
const LOCALHOST: (&str, Addrs) = ("localhost", Addrs { v4: Ipv4Addr::LOCALHOST, v6: Ipv6Addr::LOCALHOST });
/// The server behind [`SERVER_PORT`] + 1 has a name of its own.
const OTHER_PORT: u16 = SERVER_PORT + 1;

const fn on_front(host: u8) -> Addrs {
    Addrs { v4: Ipv4Addr::new(192, 0, 2, host), v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host as u16) }
}

/// Servers on all pods and nodes, links to the hub, ways for what is no host's address. The agent is the machine of the
/// load balancer, which answers what no node has taken.
pub fn prepare(topology: &Topology, hub: &Netns, number: u8) -> Result<Agent> {
    for (node, number) in topology.nodes.iter().zip(number..) {
        node.hosts().try_for_each(serve)?;
        join(&node.host.netns, hub, number)?;
        set_rules(node)?;
    }
    // As a source the kernel takes neither by itself.
    let (alternative, stranger) = (ALTERNATIVE.1, STRANGERS_ADDRS);
    topology.node(1).host.netns.ip(&second_address(alternative))?;
    let via = topology.node(1).host.addrs;
    topology.client.netns.ip(&second_address(stranger))?;
    for range in ["198.18.0.0/15", "2001:db8:12::/47", "fd00:96::/112", "10.244.0.0/16", "fd00:10:244::/48"] {
        let via = if range.contains(':') { via.v6.to_string() } else { via.v4.to_string() };
        topology.client.netns.ip(&format!("route add {range} via {via}"))?;
    }
    serve(&topology.client)?;
    let lan = topology.lan();
    for range in ["198.18.0.0/15", "2001:db8:12::/47", "10.96.0.0/16", "fd00:96::/112"] {
        lan.ip(&format!("route add local {range} dev lo"))?;
    }
    // Back by the way the client's packets come, which it should not be told to shorten: conntrack wants to see both.
    for client in [topology.client.addrs, stranger] {
        lan.ip(&format!(
            "route add {}/32 via {}\nroute add {}/128 via {}",
            client.v4, via.v4, client.v6, via.v6
        ))?;
    }
    let keys = ["ipv4/conf/all", "ipv4/conf/eth0", "ipv6/conf/all", "ipv6/conf/eth0"];
    let keys = keys.map(|conf| format!("net/{conf}/accept_redirects"));
    keys.iter().try_for_each(|key| topology.client.netns.sysctl(&[(key, "0")]))?;
    let lb = Agent::start("lb", lan, topology.cgroup())?;
    lb.serve(SERVICE_PORT)?;
    Ok(lb)
}

fn serve(host: &Host) -> Result<()> {
    host.agent.serve(SERVER_PORT)?;
    host.agent.serve_as(&format!("{}:{OTHER_PORT}", host.name()), OTHER_PORT)
}

fn second_address(addrs: Addrs) -> String {
    format!("addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad preferred_lft 0", addrs.v4, addrs.v6)
}

/// Gives a node an interface to the hub and an address there.
fn join(node: &Netns, hub: &Netns, number: u8) -> Result<()> {
    hub.ip(&format!(
        "link add n{number} type veth peer name {LINK} netns {}\nlink set n{number} master br0 up",
        node.name()
    ))?;
    node.ip(&format!("addr add 172.30.0.{number}/24 dev {LINK}\nlink set {LINK} up"))
}

/// A CNI that masquerades only what leaves the cluster, so that pods see each other, and node1 by its other address sees them. No limit to ICMP errors: a client that
/// is refused often should hear it every time.
fn set_rules(node: &Node) -> Result<()> {
    let netns = &node.host.netns;
    netns.sysctl(&[("net/ipv4/icmp_ratemask", "0"), ("net/ipv6/icmp/ratelimit", "0")])?;
    let pods = node.pod_cidrs();
    netns.nft(&format!(
        "flush chain inet cni postrouting
         add rule inet cni postrouting ip saddr {}/24 ip daddr != {{ 10.244.0.0/16, {} }} masquerade
         add rule inet cni postrouting ip6 saddr {}/64 ip6 daddr != {{ fd00:10:244::/48, {} }} masquerade",
        pods.v4, ALTERNATIVE.1.v4, pods.v6, ALTERNATIVE.1.v6
    ))
}

/// Gives a node addresses of load balancers, as one that announces them does; again is no harm. They are no sources but
/// towards themselves.
pub fn hold(node: &Node, addresses: &[Addrs]) -> Result<()> {
    let lines = addresses.iter().map(|addrs| {
        format!(
            "addr replace {}/32 dev lo scope host\naddr replace {}/128 dev lo nodad preferred_lft 0\n",
            addrs.v4, addrs.v6
        )
    });
    node.host.netns.ip(&lines.collect::<String>())
}

/// Every host by its name, and addresses that have names of their own.
pub fn places(topology: &Topology) -> BTreeMap<String, Place> {
    let of_nodes = topology.nodes.iter().flat_map(|node| {
        node.hosts()
            .map(|host| (host.name().to_owned(), Place { addrs: host.addrs, node: node.name().to_owned() }))
    });
    let nowhere = |name: &str, addrs| (name.to_owned(), Place { addrs, node: String::new() });
    let others = [
        nowhere("client", topology.client.addrs),
        nowhere(STRANGER, STRANGERS_ADDRS),
        nowhere(ALTERNATIVE.0, ALTERNATIVE.1),
        nowhere(LOCALHOST.0, LOCALHOST.1),
    ];
    of_nodes.chain(others).collect()
}
