//! The simulated network: a client and two strict nodes on a LAN, pods with either kind of link on the nodes.
//!
//! ```text
//!   client ── eth0 ┐            ┌ eth0 ── node1 ── veth* ── pods 10.244.1.0/24
//!                  ├ lan (front)┤
//!                               └ eth0 ── node2 ── veth* ── pods 10.244.2.0/24
//!                    lan (back) ─ eth1 ── both nodes, with two uplinks
//! ```

mod addresses;
mod firewall;
mod host;
mod kinds;
mod node;
mod pod;
mod tunnel;
mod xdp_pass;

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};

pub use crate::family::Family;
pub use addresses::{Addrs, SERVICE_CIDR_V4, SERVICE_CIDR_V6, service};
pub use host::Host;
pub use kinds::{ESP, missing_kind, security_association};
pub use node::Node;
pub use pod::Pod;
use tunnel::{End, Tunnel};

use crate::cgroup::Cgroup;
use crate::netns::Netns;
use crate::run_name::RunName;

/// Kind of a pod's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A routed veth pair, as made by the `ptp` plugin and Calico.
    Routed,
    /// A port of a bridge that has the gateway's address, as made by the `bridge` plugin and flannel.
    Bridged,
}

/// Checksum and segmentation offloads of the interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// No checksum is computed: veth hands partial checksums through to the receiver.
    Default,
    /// `tx off` on the node's last hop towards a receiver, which makes wrong checksums visible.
    TxOff,
    /// `tx off` at every sending end and `gro on` at every receiving one: XDP on veth needs this.
    ForXdp,
}

/// Network between the nodes' pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// By eth0, like everything else.
    Lan,
    /// By eth1, an uplink of their own. The client and the default route stay on eth0.
    OwnUplink,
    /// Like [`Between::OwnUplink`]; and rules send packets of pods to the outside by a gateway of eth1 that does not exist,
    /// as the AWS VPC CNI does for pods of its second card. Answers to the client must not follow them.
    OwnUplinkBySource,
    /// By `tun0`, a device without Ethernet header. The client can reach node1 by another one: `tun1` of node1 and `tun0`
    /// of the client.
    Tunnel,
    /// By `flannel.1`, a VXLAN as flannel makes it.
    Vxlan,
}

impl Between {
    const fn has_own_uplink(self) -> bool {
        matches!(self, Self::OwnUplink | Self::OwnUplinkBySource)
    }
}

/// Forwarded packets that the node's firewall accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwards {
    /// All that conntrack finds valid.
    Valid,
    /// Packets from and to pods, and answers. The policy drops the rest.
    OfPods,
    /// The same as [`Forwards::Valid`], by the policy instead of a rule: svc then sends packets for pods of the node through
    /// the stack.
    ByDefault,
}

/// Variants of the topology.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub shape: Shape,
    pub offloads: Offloads,
    pub between: Between,
    pub forwards: Forwards,
    /// `bridge-nf-call-iptables`: netfilter sees bridged packets.
    pub bridge_nf: bool,
    /// The node's only card is a port of the bridge br0, which has its addresses.
    pub card_in_bridge: bool,
    /// Prefix of the names of pods' host ends; CNIs differ.
    pub pod_prefix: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shape: Shape::Routed,
            offloads: Offloads::Default,
            between: Between::Lan,
            forwards: Forwards::Valid,
            bridge_nf: true,
            card_in_bridge: false,
            pod_prefix: "veth",
        }
    }
}

/// MTU of the tunnel between the nodes, unknown to senders.
const NODE_TUNNEL_MTU: u16 = 1_300;
/// MTU of the tunnel between node1 and the client.
const CLIENT_TUNNEL_MTU: u16 = 1_400;

/// The network with an agent on every host. Dropping it removes everything.
#[derive(Debug)]
pub struct Topology {
    pub name: RunName,
    pub options: Options,
    pub client: Host,
    pub nodes: Vec<Node>,
    lan: Netns,
    cgroup: Cgroup,
    /// Dropped in reverse order: each depends on the namespaces above.
    tunnels: Vec<Tunnel>,
    /// The XDP programs of the LAN's ports.
    links: Vec<OwnedFd>,
}

impl Topology {
    pub fn new(name: &RunName, options: Options) -> Result<Self> {
        let cgroup = Cgroup::new(name.as_str())?;
        let lan = lan(name, options.between.has_own_uplink())?;
        let client = client(name, &lan, &cgroup).context("the client")?;
        let node =
            |index| Node::new(name, index, options, &lan, &cgroup).with_context(|| format!("node{index}"));
        let nodes = vec![node(1)?, node(2)?];
        let mut topology = Self {
            name: name.clone(),
            options,
            client,
            nodes,
            lan,
            cgroup,
            tunnels: Vec::new(),
            links: Vec::new(),
        };
        if options.card_in_bridge {
            topology.nodes.iter_mut().try_for_each(Node::bridge_card).context("the cards' bridges")?;
        }
        match options.between {
            Between::Lan | Between::OwnUplink | Between::OwnUplinkBySource => {}
            Between::Tunnel => topology.dig().context("the tunnels")?,
            Between::Vxlan => topology.nodes.iter().try_for_each(Node::join_vxlan).context("the VXLAN")?,
        }
        if options.offloads == Offloads::ForXdp {
            topology.prepare_lan_for_xdp()?;
        }
        Ok(topology)
    }

    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index - 1]
    }

    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index - 1]
    }

    /// Connects one more node without pods to the front network, which reaches the pods of the first two.
    pub fn add_node(&mut self) -> Result<()> {
        ensure!(self.options.between == Between::Lan, "further nodes are on the front network alone");
        let index = u8::try_from(self.nodes.len() + 1)?;
        let node = Node::new(&self.name, index, self.options, &self.lan, &self.cgroup);
        self.nodes.push(node.with_context(|| format!("node{index}"))?);
        Ok(())
    }

    /// The host (client, node or pod) of that name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        let hosts = self.nodes.iter().flat_map(Node::hosts).chain([&self.client]);
        hosts.into_iter().find(|host| host.name() == name).with_context(|| format!("no host {name}"))
    }

    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The networks in the middle, and the nodes' default gateway.
    pub fn lan(&self) -> &Netns {
        &self.lan
    }

    /// Makes the tunnels, and routes the nodes' traffic to each other's pods through the one between them.
    fn dig(&mut self) -> Result<()> {
        let [node1, node2] = [&self.nodes[0], &self.nodes[1]].map(|node| &node.host.netns);
        let client = &self.client.netns;
        let end = |netns, device, addrs| End { netns, device, addrs };
        let [left, right] = [end(node1, "tun0", addresses::back(1)), end(node2, "tun0", addresses::back(2))];
        self.tunnels.push(Tunnel::new([&left, &right], NODE_TUNNEL_MTU)?);
        let [near, far] =
            [end(node1, "tun1", addresses::back(101)), end(client, "tun0", addresses::back(109))];
        self.tunnels.push(Tunnel::new([&near, &far], CLIENT_TUNNEL_MTU)?);
        for (index, netns) in [(1, node1), (2, node2)] {
            let pods = addresses::pod(3 - index, 0);
            netns.ip(&format!(
                "route replace {}/24 dev tun0\nroute replace {}/64 dev tun0",
                pods.v4, pods.v6
            ))?;
        }
        Ok(())
    }

    /// The client reaches these networks, one of each family, by the gateway of the LAN, which forwards and redirects nobody.
    pub fn client_by_gateway(&self, [v4, v6]: [&str; 2]) -> Result<()> {
        self.lan().sysctl(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/front/send_redirects", "0"),
        ])?;
        let client = &self.client.netns;
        client.sysctl(&[
            ("net/ipv6/conf/all/accept_redirects", "0"),
            ("net/ipv6/conf/eth0/accept_redirects", "0"),
        ])?;
        client.ip(&format!("route add {v4} via 192.0.2.254\nroute add {v6} via 2001:db8:1::fe"))
    }

    /// From now on the client reaches node1, and Services, by its tunnel.
    pub fn client_by_tunnel(&self) -> Result<()> {
        let (own, node) = (addresses::back(109), addresses::front(1));
        let mut lines = String::new();
        for (to, src) in [
            (format!("{}/32", node.v4), own.of(Family::V4)),
            (format!("{}/128", node.v6), own.of(Family::V6)),
            (SERVICE_CIDR_V4.to_owned(), own.of(Family::V4)),
            (SERVICE_CIDR_V6.to_owned(), own.of(Family::V6)),
        ] {
            lines.push_str(&format!("route replace {to} dev tun0 src {src}\n"));
        }
        self.client.netns.ip(&lines)
    }

    fn prepare_lan_for_xdp(&mut self) -> Result<()> {
        prepare_for_xdp(&self.client.netns, "eth0")?;
        for host in ["client", "node1", "node2"] {
            let mut ports = vec![front_port(host)];
            if self.options.between.has_own_uplink() && host != "client" {
                ports.push(back_port(host));
            }
            for port in ports {
                prepare_for_xdp(&self.lan, &port)?;
                if host != "client" {
                    self.links.push(xdp_pass::attach(&self.lan, &port)?);
                }
            }
        }
        Ok(())
    }
}

/// An XDP redirect loses the mark of a partial checksum, and needs a receiver with NAPI.
fn prepare_for_xdp(netns: &Netns, interface: &str) -> Result<()> {
    netns.offload(interface, "tx", false)?;
    netns.offload(interface, "gro", true)
}

fn front_port(host: &str) -> String {
    format!("f-{host}")
}

fn back_port(host: &str) -> String {
    format!("b-{host}")
}

/// A bridge per network; the front one is also the nodes' default gateway.
fn lan(name: &RunName, two_uplinks: bool) -> Result<Netns> {
    let lan = Netns::new(&name.host("lan"))?;
    addresses::no_waiting_for_dad(&lan)?;
    let gateway = addresses::FRONT_GATEWAY;
    lan.ip(&format!(
        "link add front type bridge\nlink set front up\n\
         addr add {}/24 dev front\naddr add {}/64 dev front nodad",
        gateway.v4, gateway.v6
    ))?;
    if two_uplinks {
        lan.ip("link add back type bridge\nlink set back up")?;
    }
    Ok(lan)
}

/// Connects a namespace to a bridge of the LAN.
fn plug(lan: &Netns, bridge: &str, port: &str, netns: &Netns, interface: &str) -> Result<()> {
    lan.ip(&format!(
        "link add {port} type veth peer name {interface} netns {}\n\
         link set {port} master {bridge} up",
        netns.name()
    ))
}

/// The outside client: on the front network, with a route to the service range through node1.
fn client(name: &RunName, lan: &Netns, cgroup: &Cgroup) -> Result<Host> {
    let netns = Netns::new(&name.host("client"))?;
    addresses::no_waiting_for_dad(&netns)?;
    plug(lan, "front", &front_port("client"), &netns, "eth0")?;
    let (own, via) = (addresses::CLIENT, addresses::front(1));
    netns.ip(&format!(
        "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n\
         route add {SERVICE_CIDR_V4} via {}\nroute add {SERVICE_CIDR_V6} via {}",
        own.v4, own.v6, via.v4, via.v6
    ))?;
    Host::new("client", netns, cgroup.child("client")?, own)
}
