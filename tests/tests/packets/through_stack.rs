//! Masquerade through the stack: DNAT at ingress, SNAT at egress, so that the FORWARD rules see client and backend in
//! both directions.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::{Hook, IfaceFlags};
use svc_tests::packet::flow::{Flow, flow};
use svc_tests::packet::place::Family;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    let mut rows = both_ways();
    rows.extend(begins());
    rows.extend(narrowed());
    rows
}

/// A NodePort of a remote pod, on a node whose masquerade goes through the stack.
fn through_stack(name: &'static str) -> Row {
    row(name).client("client:5000").service(node_port()).interfaces_are(IfaceFlags::THROUGH_STACK)
}

fn node_port() -> Service {
    external("any:30080", &["remote:8080"])
}

/// The flow that the client begins, and the one that masquerades it.
fn translated() -> Flow {
    flow("client:5000 > node:30080", "client:5000 > remote:8080").reversed_at(Hook::UPLINK_EGRESS)
}

fn masqueraded() -> Flow {
    flow("client:5000 > remote:8080", "node:snat0 > remote:8080").second_at(Hook::UPLINK_EGRESS)
}

fn both_ways() -> Vec<Row> {
    vec![
        through_stack("the stack sees the addresses of client and backend in both directions (SEM-081)")
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .passes(first("client:5000", "remote:8080"))
                    .counts(&[FlowNew]),
            )
            .sees(
                up_out("up0", first("client:5000", "remote:8080"))
                    .passes(first("node:snat0", "remote:8080"))
                    .uncounted(),
            )
            .sees(
                up_in("up0", later("remote:8080", "node:snat0"))
                    .passes(later("remote:8080", "client:5000"))
                    .uncounted(),
            )
            .sees(
                up_out("up0", later("remote:8080", "client:5000")).passes(later("node:30080", "client:5000")),
            )
            .expects_flow(translated().state(&[S::REPLIED]))
            .expects_flow(masqueraded().state(&[S::REPLIED])),
        through_stack("a pod's packets to a NodePort are masqueraded (SEM-082)")
            .client("pod-a:4000")
            .sees(
                pod_in("pod0", first("pod-a:4000", "node:30080"))
                    .passes(first("pod-a:4000", "remote:8080"))
                    .counts(&[FlowNew]),
            )
            .sees(
                up_out("up0", first("pod-a:4000", "remote:8080"))
                    .passes(first("node:snat0", "remote:8080"))
                    .uncounted(),
            )
            .sees(
                up_in("up0", later("remote:8080", "node:snat0"))
                    .passes(later("remote:8080", "pod-a:4000"))
                    .uncounted(),
            )
            .sees(
                pod_out("pod0", later("remote:8080", "pod-a:4000")).passes(later("node:30080", "pod-a:4000")),
            )
            .expects_flow(flow("pod-a:4000 > node:30080", "pod-a:4000 > remote:8080").state(&[S::REPLIED]))
            .expects_flow(
                flow("pod-a:4000 > remote:8080", "node:snat0 > remote:8080")
                    .second_at(Hook::UPLINK_EGRESS)
                    .state(&[S::REPLIED]),
            ),
        through_stack("a packet masqueraded to a pod of this node goes through the stack (SEM-083)")
            .service(external("any:30081", &["pod-b:8080"]).masquerades_to_local())
            .sees(
                up_in("up0", first("client:5000", "node:30081"))
                    .passes(first("client:5000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .sees(
                pod_out("pod1", first("client:5000", "pod-b:8080"))
                    .passes(first("node:snat0", "pod-b:8080"))
                    .uncounted(),
            )
            .sees(
                pod_in("pod1", later("pod-b:8080", "node:snat0"))
                    .passes(later("pod-b:8080", "client:5000"))
                    .uncounted(),
            )
            .sees(
                up_out("up0", later("pod-b:8080", "client:5000")).passes(later("node:30081", "client:5000")),
            )
            .expects_flow(
                flow("client:5000 > node:30081", "client:5000 > pod-b:8080")
                    .reversed_at(Hook::UPLINK_EGRESS)
                    .state(&[S::REPLIED]),
            )
            .expects_flow(
                flow("client:5000 > pod-b:8080", "node:snat0 > pod-b:8080")
                    .second_at(Hook::POD_EGRESS)
                    .state(&[S::REPLIED]),
            ),
        through_stack("fragments made by the stack are masqueraded (SEM-109)")
            .with_flow(translated().udp())
            .with_flow(masqueraded().udp())
            .sees(
                up_out("up0", udp("client:5000", "remote:8080").fragment(0, true))
                    .passes(udp("node:snat0", "remote:8080").fragment(0, true))
                    .uncounted(),
            )
            .sees(
                up_out("up0", udp("client:0", "remote:0").fragment(100, false))
                    .passes(udp("node:0", "remote:0").fragment(100, false))
                    .uncounted(),
            )
            .expects_flow(translated().udp())
            .expects_flow(masqueraded().udp()),
    ]
}

fn begins() -> Vec<Row> {
    vec![
        through_stack("XDP leaves the begin of such a flow to the stack's hook")
            .sees(xdp("up0", first("client:5000", "node:30080"))),
        through_stack("a pod that reaches itself is sent back past the stack (SEM-084)")
            .client("pod-a:4000")
            .service(external("any:30081", &["pod-a:8080"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "node:30081"))
                    .redirects(first("node:snat0", "pod-a:8080").turned())
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > node:30081", "node:snat0 > pod-a:8080").hairpin()),
        through_stack("a client whose first records are lost keeps its port")
            .with_flow(masqueraded().state(&[S::REPLIED]))
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .passes(first("client:5000", "remote:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(translated())
            .expects_flow(masqueraded().state(&[S::REPLIED])),
        through_stack("ports are one client's alone (SEM-080)")
            .with_flow(
                flow("other-client:9 > remote:8080", "node:snat0 > remote:8080")
                    .second_at(Hook::UPLINK_EGRESS)
                    .state(&[S::REPLIED]),
            )
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .passes(first("client:5000", "remote:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(
                flow("other-client:9 > remote:8080", "node:snat0 > remote:8080")
                    .second_at(Hook::UPLINK_EGRESS)
                    .state(&[S::REPLIED]),
            )
            .expects_flow(translated())
            .expects_flow(
                flow("client:5000 > remote:8080", "node:snat1 > remote:8080").second_at(Hook::UPLINK_EGRESS),
            ),
        through_stack("a direct connection from the same port is not masqueraded")
            .client("pod-a:4000")
            .with_flow(flow("pod-a:4000 > node:30080", "pod-a:4000 > remote:8080"))
            .with_flow(
                flow("pod-a:4000 > remote:8080", "node:snat0 > remote:8080").second_at(Hook::UPLINK_EGRESS),
            )
            .sees(pod_in("pod0", first("pod-a:4000", "remote:8080")).counts(&[FlowGaveWay]))
            .sees(up_out("up0", first("pod-a:4000", "remote:8080")))
            .expects_flow(
                flow("pod-a:4000 > remote:8080", "node:snat0 > remote:8080")
                    .second_at(Hook::UPLINK_EGRESS)
                    .reverse_only(),
            ),
        row("packets between ports of one bridge go through the stack if netfilter sees bridged packets")
            .service(cluster_ip("vip:80", &["port-b:8080"]))
            .interfaces_are(IfaceFlags::BRIDGE_FILTERED)
            .sees(
                pod_in("port0", first("port-a:4000", "vip:80"))
                    .passes(first("port-a:4000", "port-b:8080"))
                    .counts(&[FlowNew]),
            )
            .sees(
                pod_out("port0", later("port-b:8080", "port-a:4000")).passes(later("vip:80", "port-a:4000")),
            )
            .expects_flow(flow("port-a:4000 > vip:80", "port-a:4000 > port-b:8080").state(&[S::REPLIED])),
    ]
}

fn narrowed() -> Vec<Row> {
    let narrowed = |name| {
        row(name)
            .service(external("any:30080", &["narrow:8080"]))
            .interfaces_are(IfaceFlags::NARROWED_THROUGH_STACK)
    };
    let redirected = |from: &'static str, to: &'static str, via| {
        let ways = (format!("client:5000 > {from}"), format!("node:snat0 > {to}"));
        flow(ways.0, ways.1).redirected().next_hop(via)
    };
    vec![
        narrowed(
            "datagrams over a path with a smaller MTU go through the stack, which fragments them (RFC 791)",
        )
        .only(Family::V4, "no router fragments IPv6")
        .sees(
            up_in("up0", udp("client:5000", "node:30080"))
                .passes(udp("client:5000", "narrow:8080"))
                .counts(&[FlowNew]),
        )
        .sees(
            up_out("up0", udp("client:5000", "narrow:8080"))
                .passes(udp("node:snat0", "narrow:8080"))
                .uncounted(),
        )
        .expects_flow(
            flow("client:5000 > node:30080", "client:5000 > narrow:8080")
                .udp()
                .reversed_at(Hook::UPLINK_EGRESS),
        )
        .expects_flow(
            flow("client:5000 > narrow:8080", "node:snat0 > narrow:8080")
                .udp()
                .second_at(Hook::UPLINK_EGRESS),
        ),
        narrowed("IPv6 datagrams whose way narrows here are redirected")
            .only(Family::V6, "IPv4 datagrams are fragmented")
            .sees(
                outside("up0", udp("client:5000", "node:30080"))
                    .redirects(udp("node:snat0", "narrow:8080").via("narrow"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(redirected("node:30080", "narrow:8080", "narrow").udp()),
        narrowed(
            "connections over a path with a smaller MTU are redirected: their peers learn the path's MTU",
        )
        .sees(
            outside("up0", tcp(SYN, "client:5000", "node:30080"))
                .redirects(tcp(SYN, "node:snat0", "narrow:8080").via("narrow"))
                .counts(&[FlowNew]),
        )
        .expects_flow(redirected("node:30080", "narrow:8080", "narrow").tcp()),
        narrowed("datagrams over a path with the same MTU are redirected")
            .service(external("any:30081", &["remote:8080"]))
            .sees(
                outside("up0", udp("client:5000", "node:30081"))
                    .redirects(udp("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(redirected("node:30081", "remote:8080", "remote").udp()),
    ]
}
