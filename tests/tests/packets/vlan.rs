//! Frames with tags: those of a VLAN belong to the VLAN's interface, on which svc runs, too; a priority tag belongs
//! to no VLAN. XDP sees tags in the frame, TC in the skb.

use svc_common::abi::Counter::*;
use svc_common::abi::Hook;
use svc_tests::packet::flow::{Flow, flow};
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

/// Frames that another interface gets without their outer tag.
const OF_A_VLAN: [fn(Packet) -> Packet; 5] = [
    |packet| packet.in_vlan(7),
    |packet| packet.in_vlan(5 << 13 | 7),
    |packet| packet.in_provider_vlan(5),
    |packet| packet.in_provider_vlan(5).in_vlan(7),
    |packet| packet.with_priority(5).in_vlan(7),
];

pub fn rows() -> Vec<Row> {
    [of_a_vlan(), of_a_priority()].concat()
}

fn node_port() -> Service {
    external("any:30080", &["remote:8080"])
}

fn through() -> Flow {
    flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote")
}

/// The packet with every kind of tag must be left alone.
fn sees_in_vlans(row: Row, step: impl Fn(Packet) -> Step, packet: &Packet) -> Row {
    OF_A_VLAN.iter().fold(row, |row, tags| row.sees(step(tags(packet.clone()))))
}

fn of_a_vlan() -> Vec<Row> {
    let answered =
        || flow("client:5000 > node:30080", "client:5000 > pod-a:8080").reversed_at(Hook::UPLINK_EGRESS);
    let asked = || flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080");
    vec![
        sees_in_vlans(
            row("a frame with a VLAN's tag is left to the VLAN's own interface").service(node_port()),
            |packet| outside("up0", packet),
            &first("client:5000", "node:30080"),
        ),
        sees_in_vlans(
            row("a frame with a VLAN's tag is not of the flow that has its tuple without a tag")
                .service(node_port())
                .with_flow(through())
                .expects_flow(through()),
            |packet| outside("up0", packet),
            &later("client:5000", "node:30080"),
        ),
        sees_in_vlans(
            row("a pod's frame with a VLAN's tag is left alone")
                .service(cluster_ip("vip:80", &["remote:8080"])),
            |packet| pod_in("pod0", packet),
            &first("pod-a:4000", "vip:80"),
        ),
        sees_in_vlans(
            row("an answer that leaves with a VLAN's tag has been translated on the VLAN's own interface")
                .service(external("any:30080", &["pod-a:8080"]))
                .with_flow(answered())
                .expects_flow(answered()),
            |packet| up_out("up0", packet),
            &later("pod-a:8080", "client:5000"),
        ),
        sees_in_vlans(
            row("a frame to a pod with a VLAN's tag is left alone")
                .service(cluster_ip("vip:80", &["pod-b:8080"]))
                .with_flow(asked())
                .expects_flow(asked()),
            |packet| pod_out("pod0", packet),
            &later("pod-b:8080", "pod-a:4000"),
        ),
    ]
}

/// VLAN id 0 is no VLAN (IEEE 802.1Q): Linux treats such a frame as untagged.
fn of_a_priority() -> Vec<Row> {
    vec![
        row("a frame with only a priority tag is served as one without a tag")
            .service(node_port())
            .sees(
                up_in("up0", first("client:5000", "node:30080").with_priority(5))
                    .redirects(first("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(through()),
        row("a frame with only a priority tag goes the way of its flow")
            .service(node_port())
            .with_flow(through())
            .sees(
                up_in("up0", first("client:5000", "node:30080").in_vlan(0))
                    .redirects(first("node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(through()),
        row("a pod may tag its frames with a priority alone")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "vip:80").with_priority(5))
                    .passes(first("pod-a:4000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080")),
        row("XDP hands up a frame with only a priority tag, untouched")
            .service(node_port())
            .sees(xdp("up0", first("client:5000", "node:30080").with_priority(5))),
    ]
}
