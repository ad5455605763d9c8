//! Devices that few kernels but the distributions' have: tunnels, bonds, VRFs, ipvlan; and ESP. On other kernels these
//! cases are skipped by name; the tier `kernel` runs them on Debian's.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svc_tests::command;
use svc_tests::manifests::Service;
use svc_tests::topology::{Addrs, Between, ESP, Node, Options, security_association};

use crate::case::{Case, ClientOutcome, Row, Target, Way};
use crate::lab::Lab;

/// The interface between the nodes that a case makes.
const TUNNEL: &str = "tunnel1";
/// The same for IPv6, where one device carries one family.
const TUNNEL6: &str = "tunnel6";

pub fn cases() -> Vec<Case> {
    vec![
        Case {
            options: by_tun(),
            also: Some(("the device is an uplink", |lab| lab.has_role("tun0", "uplink").map(|_| ()))),
            ..Case::new(
                "R01",
                "pods of the other node are behind a tun, which has no Ethernet header",
                to_other_node(),
            )
        },
        Case {
            options: by_tun(),
            prepare: |lab| lab.world.topology.client_by_tunnel(),
            also: Some(("without endpoints the client is refused", |lab| {
                let without = Service { backends: Vec::new(), ..lab.service("far")?.clone() };
                lab.world.folder.write_service(&without)?;
                lab.soon(Way::Svc, &[Row::always("client", Target::NodePort("far"), ClientOutcome::Refusal)])
            })),
            ..Case::new(
                "R01",
                "a client comes by a tun, which has no Ethernet header",
                vec![
                    Row::answered("client", Target::NodePort("near"), "near"),
                    Row::answered("client", Target::NodePort("far"), "far"),
                ],
            )
        },
        between_nodes("IPIP", &["ipip", "ip6tnl"], ipip),
        between_nodes("GRE", &["gre"], |lab| {
            tunnels(lab, |own, other| {
                format!("link add {TUNNEL} type gre local {} remote {}", own.v4, other.v4)
            })
        }),
        between_nodes("Geneve", &["geneve"], |lab| {
            tunnels(lab, |_, other| format!("link add {TUNNEL} type geneve id 7 remote {}", other.v4))
        }),
        between_nodes("WireGuard", &["wireguard"], wireguard),
        Case {
            kinds: &["bond"],
            prepare: |lab| {
                let node = lab.world.topology.node_mut(1);
                node.host.netns.ip("link add bond0 type bond mode active-backup miimon 100")?;
                node.join_card("bond0")
            },
            also: Some(("the bond is an uplink and its card has no role", |lab| {
                lab.has_role("bond0", "uplink")?.has_role("eth0", "none").map(|_| ())
            })),
            ..Case::new("R12", &of_kind("bond", "it has the network card, and NodePorts are served"), usual())
        },
        Case {
            kinds: &["vrf"],
            prepare: |lab| enter_vrf(lab.world.topology.node(1)),
            also: Some(("the card is an uplink, and NodePorts are served after the VRF is gone", |lab| {
                lab.has_role("eth0", "uplink")?.has_role(VRF, "none")?;
                leave_vrf(lab.world.topology.node(1))?;
                lab.soon(Way::Svc, &usual())
            })),
            ..Case::new(
                "R07",
                &of_kind("VRF", "it has the network card, and NodePorts are served, also when it is gone"),
                // The control loses a pod's packets to itself.
                usual().split_off(1),
            )
        },
        Case {
            kinds: &["ipvlan"],
            pod_sockets: true,
            prepare: |lab| share_card(lab, "ipvlan mode l2"),
            ..Case::new(
                "R21",
                &of_kind("ipvlan", "a pod behind it is served by the socket hooks alone"),
                by_sockets_alone(),
            )
        },
        Case {
            kinds: &["macvlan"],
            pod_sockets: true,
            prepare: |lab| share_card(lab, "macvlan mode bridge"),
            ..Case::new(
                "R21",
                &of_kind("macvlan", "a pod behind it is served by the socket hooks alone"),
                by_sockets_alone(),
            )
        },
        Case {
            options: Options { between: Between::Vxlan, ..Options::default() },
            kinds: &[ESP],
            prepare: |lab| pairs(lab).into_iter().try_for_each(|(own, other)| encrypt(own, other)),
            also: Some((
                "every packet of the VXLAN is encrypted, and no complaint names the policies",
                |lab| {
                    let complaints = lab.world.daemon(1)?.complaints()?;
                    ensure!(!complaints.iter().any(|c| c.to_string().contains("xfrm")), "{complaints:?}");
                    pairs(lab).into_iter().try_for_each(|(own, other)| has_sent_encrypted(own, other))
                },
            )),
            ..Case::new(
                "R11",
                "IPsec of the kind ESP: a VXLAN between the nodes is encrypted, and all that svc sends into it",
                usual(),
            )
        },
    ]
}

fn by_tun() -> Options {
    Options { between: Between::Tunnel, ..Options::default() }
}

/// The tier `kernel` finds these cases by "of the kind".
fn of_kind(kind: &str, sentence: &str) -> String {
    format!("a device of the kind {kind}: {sentence}")
}

fn usual() -> Vec<Row> {
    vec![
        Row::answered("pod", Target::NodePort("pod"), "pod"),
        Row::answered("pod", Target::ClusterIp("near"), "near"),
        Row::answered("pod", Target::ClusterIp("far"), "far"),
        Row::answered("pod", Target::NodePort("far"), "far"),
        Row::answered("client", Target::NodePort("near"), "near"),
        Row::answered("client", Target::NodePort("far"), "far"),
    ]
}

/// The nodes reach each other's pods by a device of these kinds.
fn between_nodes(name: &str, kinds: &'static [&'static str], prepare: fn(&mut Lab) -> Result<()>) -> Case {
    Case {
        kinds,
        prepare,
        also: Some(("the device is an uplink", |lab| lab.has_role(TUNNEL, "uplink").map(|_| ()))),
        ..Case::new("R01", &of_kind(name, "pods of the other node are behind it"), to_other_node())
    }
}

/// The usual clients, and the node itself.
fn to_other_node() -> Vec<Row> {
    let mut rows = usual();
    rows.push(Row::answered("node1", Target::ClusterIp("far"), "far"));
    rows
}

/// Makes a device for both families on each node, from the addresses of the node and of the other one.
fn tunnels(lab: &Lab, make: fn(Addrs, Addrs) -> String) -> Result<()> {
    for (own, other) in pairs(lab) {
        own.host.netns.ip(&make(own.host.addrs, other.host.addrs))?;
        address(own, TUNNEL, TUNNEL)?;
        route(own, other, TUNNEL, TUNNEL)?;
    }
    Ok(())
}

/// Each node with the other one.
fn pairs(lab: &Lab) -> [(&Node, &Node); 2] {
    let [node1, node2] = [1, 2].map(|node| lab.world.topology.node(node));
    [(node1, node2), (node2, node1)]
}

/// Gives the devices the first address of the node's pods, as flannel and Calico do.
fn address(node: &Node, of_v4: &str, of_v6: &str) -> Result<()> {
    let own = node.pod_cidrs();
    node.host.netns.ip(&format!(
        "addr add {}/32 dev {of_v4}\nlink set {of_v4} up\naddr add {}/128 dev {of_v6} nodad\nlink set {of_v6} up",
        own.v4, own.v6
    ))
}

/// A next hop inside the tunnel, which a device without Ethernet header ignores.
fn route(node: &Node, other: &Node, by_v4: &str, by_v6: &str) -> Result<()> {
    let there = other.pod_cidrs();
    node.host.netns.ip(&format!(
        "route replace {v4}/24 via {v4} dev {by_v4} onlink\nroute del {v6}/64\n\
         route add {v6}/128 dev {by_v6}\nroute add {v6}/64 via {v6} dev {by_v6}",
        v4 = there.v4,
        v6 = there.v6
    ))
}

/// The policies of OpenShift and of libreswan between hosts: all packets of the VXLAN are encrypted, and others are not
/// accepted.
fn encrypt(own: &Node, other: &Node) -> Result<()> {
    let (here, there) = (own.host.addrs.v4, other.host.addrs.v4);
    let policy = |from, to, direction| {
        format!(
            "xfrm policy add src {from}/32 dst {to}/32 proto 17 dport 8472 dir {direction} \
             tmpl proto esp mode transport level required"
        )
    };
    own.host.netns.ip(&[
        security_association(here, there),
        security_association(there, here),
        policy(here, there, "out"),
        policy(there, here, "in"),
    ]
    .join("\n"))
}

/// Every packet of the VXLAN's device has left encrypted.
fn has_sent_encrypted(own: &Node, other: &Node) -> Result<()> {
    let (here, there) = (own.host.addrs.v4, other.host.addrs.v4);
    let netns = &own.host.netns;
    let args = format!("-s xfrm state get src {here} dst {there} proto esp spi 7");
    let shown = command::run(netns.command("ip")?.args(args.split(' ')))?;
    // "1234(bytes), 12(packets)"; the limits have words in front of their units.
    let count = |line: &str| line.split_once("(bytes), ")?.1.strip_suffix("(packets)")?.parse::<u64>().ok();
    let encrypted = shown.lines().find_map(count).with_context(|| format!("no count of packets: {shown}"))?;
    let shown = command::run(netns.command("ip")?.args(["-j", "-s", "link", "show", "flannel.1"]))?;
    let link: Value = serde_json::from_str(&shown)?;
    let sent =
        link[0]["stats64"]["tx"]["packets"].as_u64().with_context(|| format!("no statistics: {shown}"))?;
    ensure!(
        encrypted > 0 && encrypted >= sent,
        "{encrypted} packets are encrypted of {sent} sent by the VXLAN"
    );
    Ok(())
}

fn ipip(lab: &mut Lab) -> Result<()> {
    for (own, other) in pairs(lab) {
        let (from, to) = (own.host.addrs, other.host.addrs);
        own.host.netns.ip(&format!(
            "link add {TUNNEL} type ipip local {} remote {}\n\
             link add {TUNNEL6} type ip6tnl mode ip6ip6 local {} remote {}",
            from.v4, to.v4, from.v6, to.v6
        ))?;
        address(own, TUNNEL, TUNNEL6)?;
        route(own, other, TUNNEL, TUNNEL6)?;
    }
    Ok(())
}

fn wireguard(lab: &mut Lab) -> Result<()> {
    const PORT: u16 = 51_820;
    let mut keys = Vec::new();
    for (own, _) in pairs(lab) {
        let netns = &own.host.netns;
        netns.ip(&format!("link add {TUNNEL} type wireguard"))?;
        let private = command::run(netns.command("wg")?.arg("genkey"))?;
        let mut set = netns.command("wg")?;
        set.args(["set", TUNNEL, "listen-port", &PORT.to_string(), "private-key", "/dev/stdin"]);
        command::feed(&mut set, &private)?;
        keys.push(command::feed(netns.command("wg")?.arg("pubkey"), &private)?.trim().to_owned());
    }
    for ((own, other), key) in pairs(lab).into_iter().zip(keys.iter().rev()) {
        let there = other.pod_cidrs();
        let allowed = format!("{}/24,{}/64", there.v4, there.v6);
        let endpoint = format!("{}:{PORT}", other.host.addrs.v4);
        let mut peer = own.host.netns.command("wg")?;
        peer.args(["set", TUNNEL, "peer", key, "endpoint", &endpoint, "allowed-ips", &allowed]);
        command::run(&mut peer)?;
        address(own, TUNNEL, TUNNEL)?;
        route(own, other, TUNNEL, TUNNEL)?;
    }
    Ok(())
}

const VRF: &str = "vrf-front";

/// The card's routes are in the VRF's table, with routes to pods; the main table has routes to the card's networks.
fn enter_vrf(node: &Node) -> Result<()> {
    let netns = &node.host.netns;
    netns.ip(&format!("link add {VRF} type vrf table 10\nlink set {VRF} up\nlink set eth0 master {VRF}"))?;
    readdress(node)?;
    let mut lines = "route add 192.0.2.0/24 dev eth0\nroute add 2001:db8:1::/64 dev eth0\n\
                     route add default via 192.0.2.254 dev eth0 table 10\n\
                     route add default via 2001:db8:1::fe dev eth0 table 10\n"
        .to_owned();
    for pod in node.pods.values() {
        let Addrs { v4, v6 } = pod.host.addrs;
        let veth = &pod.interface;
        lines += &format!("route add {v4}/32 dev {veth} table 10\nroute add {v6}/128 dev {veth} table 10\n");
    }
    lines += &routes_to_far_pods("");
    lines += &routes_to_far_pods(" table 10");
    netns.ip(&lines)
}

fn leave_vrf(node: &Node) -> Result<()> {
    node.host.netns.ip(&format!("link delete {VRF}"))?;
    readdress(node)?;
    node.host.netns.ip(&format!(
        "route add default via 192.0.2.254\nroute add default via 2001:db8:1::fe\n{}",
        routes_to_far_pods("")
    ))
}

/// The kernel removes addresses and routes of a card that enters or leaves a VRF, in part.
fn readdress(node: &Node) -> Result<()> {
    let own = node.host.addrs;
    node.host.netns.ip(&format!(
        "addr flush dev eth0\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up",
        own.v4, own.v6
    ))
}

fn routes_to_far_pods(table: &str) -> String {
    format!(
        "route replace 10.244.2.0/24 via 192.0.2.2 dev eth0 onlink{table}\n\
         route replace fd00:10:244:2::/64 via 2001:db8:1::2 dev eth0 onlink{table}\n"
    )
}

/// The pod `pod` loses its own pair, and shares the node's card under an address of the LAN.
fn share_card(lab: &mut Lab, kind: &str) -> Result<()> {
    let topology = &mut lab.world.topology;
    let far = topology.node(2);
    let (pods, via) = (far.pod_cidrs(), far.host.addrs);
    let node = topology.node_mut(1);
    let pod = node.pods.get_mut("pod").context("no pod `pod`")?;
    let former = std::mem::replace(&mut pod.interface, "eth0".to_owned());
    node.host.netns.ip(&format!(
        "link delete {former}\nlink add link eth0 name shared netns {} type {kind}",
        pod.host.netns.name()
    ))?;
    pod.host.netns.ip(&format!(
        "link set shared name eth0\naddr add 192.0.2.50/24 dev eth0\naddr add 2001:db8:1::50/64 dev eth0 nodad\n\
         link set eth0 up\nroute add {}/24 via {}\nroute add {}/64 via {}\n\
         route add default via 192.0.2.254\nroute add default via 2001:db8:1::fe",
        pods.v4, via.v4, pods.v6, via.v6
    ))
}

/// Packets of such a pod leave by the card without passing the node's stack.
fn by_sockets_alone() -> Vec<Row> {
    vec![
        Row::answered("pod", Target::ClusterIp("far"), "far").nft(ClientOutcome::NoAnswer),
        Row::answered("client", Target::NodePort("near"), "near"),
        Row::answered("client", Target::NodePort("far"), "far"),
    ]
}
