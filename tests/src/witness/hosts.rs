//! The hosts of a network and the routes between them, before a proxy starts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Result;

use super::service::Place;
use crate::agent::Agent;
use crate::manifests::{SERVER_PORT, SERVICE_PORT};
use crate::netns::Netns;
use crate::topology::{Addrs, Host, Node, Topology};

/// `pod` and `far` are clients, the others servers; those named `a` are on node1, those named `b` on node2.
pub const PODS: [(usize, &str); 7] =
    [(1, "pod"), (1, "a1"), (1, "a2"), (1, "a3"), (2, "far"), (2, "b1"), (2, "b2")];
/// A node's interface towards the hub.
pub const LINK: &str = "api0";

/// The client with another address.
pub const OTHER_CLIENT: &str = "client-alt";
pub const OTHER_CLIENT_ADDRS: Addrs = on_front(201);
/// node1 with an address that is not its InternalIP.
const ALTERNATIVE: (&str, Addrs) = ("node1-alt", on_front(101));
const LOCALHOST: (&str, Addrs) = ("localhost", Addrs { v4: Ipv4Addr::LOCALHOST, v6: Ipv6Addr::LOCALHOST });
/// The server at [`SERVER_PORT`] + 1 has a name of its own.
const OTHER_PORT: u16 = SERVER_PORT + 1;

const fn on_front(host: u8) -> Addrs {
    Addrs { v4: Ipv4Addr::new(192, 0, 2, host), v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host as u16) }
}

/// Servers on all pods and nodes, links to the hub, and routes for addresses without a host. The returned agent is
/// the load balancer's machine, which answers connections that no node takes.
pub fn prepare(topology: &Topology, hub: &Netns, number: u8) -> Result<Agent> {
    for (node, number) in topology.nodes.iter().zip(number..) {
        node.hosts().try_for_each(serve)?;
        join(&node.host.netns, hub, number)?;
        set_rules(node)?;
    }
    // Linux does not select either address as a source by itself.
    let (alternative, other_client) = (ALTERNATIVE.1, OTHER_CLIENT_ADDRS);
    topology.node(1).host.netns.ip(&second_address(alternative))?;
    let via = topology.node(1).host.addrs;
    topology.client.netns.ip(&second_address(other_client))?;
    for range in ["198.18.0.0/15", "2001:db8:12::/47", "fd00:96::/112", "10.244.0.0/16", "fd00:10:244::/48"] {
        let via = if range.contains(':') { via.v6.to_string() } else { via.v4.to_string() };
        topology.client.netns.ip(&format!("route add {range} via {via}"))?;
    }
    serve(&topology.client)?;
    let lan = topology.lan();
    for range in ["198.18.0.0/15", "2001:db8:12::/47", "10.96.0.0/16", "fd00:96::/112"] {
        lan.ip(&format!("route add local {range} dev lo"))?;
    }
    // Replies must take the same path as the client's packets, and not be redirected to a shorter one: conntrack must
    // see both directions.
    for client in [topology.client.addrs, other_client] {
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

/// Rules of a CNI that masquerades only traffic that leaves the cluster, so pods see each other, and node1's other
/// address. ICMP errors are not rate-limited, because a client that is refused often must see each error.
fn set_rules(node: &Node) -> Result<()> {
    let netns = &node.host.netns;
    netns.sysctl(&[("net/ipv4/icmp_ratemask", "0"), ("net/ipv6/icmp/ratelimit", "0")])?;
    // The limit of both families together. In older kernels it belongs to the whole machine, and no namespace has it.
    let has_limit = netns.within(|| Ok(Path::new("/proc/sys/net/ipv4/icmp_msgs_per_sec").exists()))?;
    if has_limit {
        let no_limit = "1000000";
        netns.sysctl(&[("net/ipv4/icmp_msgs_per_sec", no_limit), ("net/ipv4/icmp_msgs_burst", no_limit)])?;
    }
    let pods = node.pod_cidrs();
    netns.nft(&format!(
        "flush chain inet cni postrouting
         add rule inet cni postrouting ip saddr {}/24 ip daddr != {{ 10.244.0.0/16, {} }} masquerade
         add rule inet cni postrouting ip6 saddr {}/64 ip6 daddr != {{ fd00:10:244::/48, {} }} masquerade",
        pods.v4, ALTERNATIVE.1.v4, pods.v6, ALTERNATIVE.1.v6
    ))
}

/// Gives a node load-balancer addresses, as a node has that announces them; may be repeated. The node uses them as a
/// source only towards themselves.
pub fn hold(node: &Node, addresses: &[Addrs]) -> Result<()> {
    let lines = addresses.iter().map(|addrs| {
        format!(
            "addr replace {}/32 dev lo scope host\naddr replace {}/128 dev lo nodad preferred_lft 0\n",
            addrs.v4, addrs.v6
        )
    });
    node.host.netns.ip(&lines.collect::<String>())
}

/// Every host by name, and addresses with names of their own.
pub fn places(topology: &Topology) -> BTreeMap<String, Place> {
    let of_nodes = topology.nodes.iter().flat_map(|node| {
        node.hosts()
            .map(|host| (host.name().to_owned(), Place { addrs: host.addrs, node: node.name().to_owned() }))
    });
    let nowhere = |name: &str, addrs| (name.to_owned(), Place { addrs, node: String::new() });
    let others = [
        nowhere("client", topology.client.addrs),
        nowhere(OTHER_CLIENT, OTHER_CLIENT_ADDRS),
        nowhere(ALTERNATIVE.0, ALTERNATIVE.1),
        nowhere(LOCALHOST.0, LOCALHOST.1),
    ];
    of_nodes.chain(others).collect()
}
