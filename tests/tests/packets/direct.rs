//! Connections that a client makes to a backend directly, from the source port of a translated flow to that backend. The
//! replies to both would be alike.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_tests::packet::flow::{Flow, flow};
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

use crate::state::{CLOSED, LIVE};

pub fn rows() -> Vec<Row> {
    [beside_open(), instead_of_ended(), unaffected()].concat()
}

/// The translated flow.
fn translated() -> Flow {
    flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080")
}

/// The flow of the direct connection.
fn beside() -> Flow {
    flow("pod-a:4000 > pod-b:8080", "pod-a:snat0 > pod-b:8080").direct()
}

/// A client's first direct packet, whose source port is replaced.
fn begins(packet: fn(&'static str, &'static str) -> Packet) -> Step {
    pod_in("pod0", packet("pod-a:4000", "pod-b:8080"))
        .passes(packet("pod-a:snat0", "pod-b:8080"))
        .counts(&[FlowDirect])
        .uncounted()
}

fn syn(src: &'static str, dst: &'static str) -> Packet {
    tcp(SYN, src, dst)
}

fn beside_open() -> Vec<Row> {
    vec![
        row("a direct connection gets another source port while a translated one has its own (SEM-080)")
            .with_flow(translated().tcp().state(LIVE))
            .sees(begins(syn))
            .sees(pod_out("pod0", tcp(SYN | ACK, "pod-b:8080", "pod-a:snat0")).uncounted().passes(tcp(
                SYN | ACK,
                "pod-b:8080",
                "pod-a:4000",
            )))
            .sees(pod_in("pod0", tcp(ACK, "pod-a:4000", "pod-b:8080")).uncounted().passes(tcp(
                ACK,
                "pod-a:snat0",
                "pod-b:8080",
            )))
            .sees(pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80")).passes(tcp(
                ACK,
                "pod-a:4000",
                "pod-b:8080",
            )))
            .sees(pod_out("pod0", tcp(ACK, "pod-b:8080", "pod-a:4000")).passes(tcp(
                ACK,
                "vip:80",
                "pod-a:4000",
            )))
            .expects_flow(translated().tcp().state(LIVE))
            .expects_flow(beside().tcp().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a direct connection from the port of a closed one keeps clear of the translated one (SEM-080)")
            .with_flow(translated().tcp().state(LIVE))
            .with_flow(beside().tcp().state(CLOSED))
            .sees(begins(syn))
            .expects_flow(translated().tcp().state(LIVE))
            .expects_flow(beside().tcp()),
        row("a direct datagram gets another source port while a translated flow has its own (SEM-080)")
            .with_flow(translated().udp())
            .sees(begins(udp))
            .sees(
                pod_out("pod0", udp("pod-b:8080", "pod-a:snat0"))
                    .uncounted()
                    .passes(udp("pod-b:8080", "pod-a:4000")),
            )
            .sees(pod_out("pod0", udp("pod-b:8080", "pod-a:4000")).passes(udp("vip:80", "pod-a:4000")))
            .expects_flow(translated().udp().state(&[S::REPLIED]))
            .expects_flow(beside().udp().state(&[S::REPLIED])),
        row("a direct datagram to a server on the node gets another source port likewise (SEM-080)")
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > node:8080").udp().on_the_node())
            .sees(
                pod_in("pod0", udp("pod-a:4000", "node:8080"))
                    .passes(udp("pod-a:snat0", "node:8080"))
                    .counts(&[FlowDirect])
                    .uncounted(),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > node:8080").udp().on_the_node())
            .expects_flow(
                flow("pod-a:4000 > node:8080", "pod-a:snat0 > node:8080").udp().on_the_node().direct(),
            ),
        row("a direct connection on one bridge is redirected as the translated one (SEM-080)")
            .with_flow(
                flow("port-a:4000 > vip:80", "port-a:4000 > port-b:8080")
                    .tcp()
                    .state(LIVE)
                    .redirected()
                    .next_hop("port-b"),
            )
            .sees(
                pod_in("port0", tcp(SYN, "port-a:4000", "port-b:8080"))
                    .redirects(tcp(SYN, "port-a:snat0", "port-b:8080").via("port-b"))
                    .counts(&[FlowDirect])
                    .uncounted(),
            )
            .expects_flow(
                flow("port-a:4000 > vip:80", "port-a:4000 > port-b:8080")
                    .tcp()
                    .state(LIVE)
                    .redirected()
                    .next_hop("port-b"),
            )
            .expects_flow(
                flow("port-a:4000 > port-b:8080", "port-a:snat0 > port-b:8080")
                    .tcp()
                    .redirected()
                    .next_hop("port-b")
                    .direct(),
            ),
    ]
}

fn instead_of_ended() -> Vec<Row> {
    vec![
        row("a direct connection removes the record of a closed one")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(translated().tcp().state(CLOSED))
            .sees(pod_in("pod0", syn("pod-a:4000", "pod-b:8080")).counts(&[FlowGaveWay])),
        row("a direct datagram removes the record of a flow that has expired")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(translated().udp().aged(40))
            .sees(pod_in("pod0", udp("pod-a:4000", "pod-b:8080")).counts(&[FlowGaveWay])),
        row("a direct datagram to a server on the node removes the record of a flow that has expired (SEM-108)")
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > node:8080").udp().on_the_node().aged(40))
            .sees(pod_in("pod0", udp("pod-a:4000", "node:8080")).counts(&[FlowGaveWay])),
        row("a direct datagram to a former backend leaves the client's new flow alone (SEM-120)")
            .with_flow(translated().udp().reverse_only())
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").udp())
            .sees(pod_in("pod0", udp("pod-a:4000", "pod-b:8080")).counts(&[FlowGaveWay]))
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").udp()),
    ]
}

fn unaffected() -> Vec<Row> {
    vec![
        row("a direct datagram from another port removes no flow")
            .with_flow(translated().udp())
            .sees(pod_in("pod0", udp("pod-a:4001", "pod-b:8080")))
            .expects_flow(translated().udp()),
        row("a direct segment in mid-flow removes no flow")
            .with_flow(translated())
            .sees(pod_in("pod0", tcp(ACK, "pod-a:4000", "pod-b:8080")))
            .expects_flow(translated()),
        row("a direct connection from another port removes no flow")
            .with_flow(translated())
            .sees(pod_in("pod0", syn("pod-a:4001", "pod-b:8080")))
            .expects_flow(translated()),
    ]
}
