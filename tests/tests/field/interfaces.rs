//! Interfaces with names other than veth.

use anyhow::{Result, ensure};
use svc_tests::topology::{Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::case::{Case, ClientOutcome, Row, Target, Way};
use crate::lab::Lab;

pub fn cases() -> Vec<Case> {
    let rows = || {
        vec![
            Row::answered("pod", Target::NodePort("pod"), "pod"),
            Row::answered("pod", Target::ClusterIp("pod"), "pod"),
            Row::answered("pod", Target::ClusterIp("near"), "near"),
            Row::answered("pod", Target::NodePort("far"), "far"),
            Row::answered("client", Target::NodePort("near"), "near"),
            Row::answered("client", Target::NodePort("far"), "far"),
        ]
    };
    let options = |pod_prefix, shape| Options { pod_prefix, shape, ..Options::default() };
    vec![
        Case {
            options: options("eni", Shape::Routed),
            also: Some(("its role is pod, and policy Local counts it as local", |lab| {
                pods_are_recognised(lab, "enipod", "10.244.1.10")
            })),
            ..Case::new("R21", "a pod's interface called eni* (AWS) is a pod's", rows())
        },
        Case {
            options: options("azv", Shape::Bridged),
            // Set by CNIs; the control needs it, because a bridge sends nothing back by the incoming port otherwise.
            prepare: |lab| {
                let node = lab.world.topology.node(1);
                let hairpin = |name: &String| format!("link set {name} type bridge_slave hairpin on");
                node.pods.values().try_for_each(|pod| node.host.netns.ip(&hairpin(&pod.interface)))
            },
            also: Some(("its role is pod, and policy Local counts it as local", |lab| {
                pods_are_recognised(lab, "azvpod", "cni0")
            })),
            ..Case::new("R21", "a bridge port called azv* (Azure) is a pod's", rows())
        },
        Case {
            options: options("gke", Shape::Routed),
            // As with the plugin `ptp`: every host end has the gateway's address.
            prepare: |lab| {
                let node = lab.world.topology.node(1);
                node.pods.values().try_for_each(|pod| {
                    let name = &pod.interface;
                    node.host.netns.ip(&format!(
                        "addr add 10.244.1.1/32 dev {name}\naddr add fd00:10:244:1::1/128 dev {name}"
                    ))
                })
            },
            also: Some(("its role is pod, and policy Local counts it as local", |lab| {
                pods_are_recognised(lab, "gkepod", "10.244.1.10")
            })),
            ..Case::new(
                "R21",
                "a pod's interface called gke* (GKE) with the gateway's address is a pod's",
                rows(),
            )
        },
        Case {
            also: Some((
                "as a bridge it is a bridge of pods, as the pod's link again it is the pod's",
                |lab| {
                    let link = lab.world.topology.node(1).pods["near"].interface.clone();
                    let netns = &lab.world.topology.node(1).host.netns;
                    netns.ip(&format!(
                        "link delete {link}\nlink add {link} type bridge\nlink set {link} up"
                    ))?;
                    let rest = [Row::answered("pod", Target::ClusterIp("far"), "far")];
                    takes_role(lab, &link, "pod-bridge")?;
                    lab.check(Way::Svc, &rest)?;
                    lab.world.topology.node(1).host.netns.ip(&format!("link delete {link}"))?;
                    let node = lab.world.topology.node(1);
                    node.adopt(&node.pods["near"])?;
                    takes_role(lab, &link, "pod")?;
                    let rows = [
                        Row::answered("near", Target::ClusterIp("far"), "far"),
                        Row::answered("client", Target::NodePort("near"), "near"),
                    ];
                    lab.soon(Way::Svc, &rows)
                },
            )),
            ..Case::new("R21", "an interface that comes back as another kind under its name", rows())
        },
        Case {
            prepare: |lab| {
                lab.world.topology.node_mut(1).bridge_card()?;
                // Otherwise the control's DNAT sends packets from the bridge back to the bridge, without masquerade.
                lab.filter_no_bridge()?;
                let topology = &lab.world.topology;
                topology.node(1).host.netns.ip(&format!(
                    "link add vethflat type veth peer name flat netns {}\nlink set vethflat master br0 up",
                    topology.lan().name()
                ))
            },
            also: Some(("the bridge is an uplink, and a complaint names the port", |lab| {
                lab.has_role("br0", "uplink")?.complains(&["interface br0", "vethflat"])
            })),
            ..Case::new("R12", "a node whose network card is in a shared bridge serves NodePorts", rows())
        },
        Case {
            options: Options { shape: Shape::Bridged, ..Options::default() },
            prepare: |lab| {
                lab.world.topology.node_mut(1).join_card("cni0")?;
                let node = lab.world.topology.node(1);
                // The node tells both sides by ICMPv6 that they share a link. A TCP socket believes it from any sender, if it
                // is not in a system call just then. One direction would pass the node by, and its conntrack.
                let settings = [
                    ("net/ipv6/conf/all/accept_redirects", "0"),
                    ("net/ipv6/conf/eth0/accept_redirects", "0"),
                ];
                let pods = node.pods.values().map(|pod| &pod.host);
                pods.chain([&lab.world.topology.client]).try_for_each(|host| host.netns.sysctl(&settings))?;
                lab.filter_no_bridge()
            },
            also: Some(("a complaint names the port", |lab| lab.complains(&["interface cni0", "vethpod"]))),
            ..Case::new(
                "R12",
                "pods in the bridge of the network card are served as clients and as backends",
                vec![
                    Row::answered("pod", Target::NodePort("pod"), "pod"),
                    // The control does not masquerade between ports of the bridge, and the reply passes it by.
                    Row::answered("pod", Target::ClusterIp("near"), "near").nft(ClientOutcome::Silence),
                    Row::answered("pod", Target::NodePort("far"), "far"),
                    Row::answered("client", Target::NodePort("near"), "near"),
                    Row::answered("client", Target::NodePort("far"), "far"),
                ],
            )
        },
    ]
}

fn takes_role(lab: &mut Lab, interface: &str, role: &str) -> Result<()> {
    wait::until_true(&format!("{interface} has the role {role}"), CHANGE_LIMIT, || {
        lab.has_role(interface, role).map(|_| true)
    })
}

/// Checks the interface's role, and that traffic policies treat its pods as local.
fn pods_are_recognised(lab: &mut Lab, interface: &str, reason: &str) -> Result<()> {
    let (role, because) = lab.role(interface)?;
    ensure!(role == "pod" && because.contains(reason), "{interface} is {role}: {because}");
    let (role, because) = lab.role("eth0")?;
    ensure!(role == "uplink" && because.contains("default route"), "eth0 is {role}: {because}");
    // Policy Local without an endpoint here: a local pod still reaches the other endpoints.
    lab.edit("far", "type: NodePort\n", "type: NodePort\n  externalTrafficPolicy: Local\n")?;
    lab.soon(
        Way::Svc,
        &[
            Row::answered("pod", Target::NodePort("far"), "far"),
            Row::always("client", Target::NodePort("far"), ClientOutcome::Silence),
        ],
    )
}
