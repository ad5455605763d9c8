//! ICMP errors that quote a translated packet: both directions on every path, so that path MTU discovery works
//! through a Service (SEM-079).

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::Hook;
use svc_tests::packet::flow::{Flow, flow};
use svc_tests::packet::place::Family;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::Complaint::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    [through_the_stack(), past_the_stack(), left_alone()].concat()
}

fn through_the_stack() -> Vec<Row> {
    let pods = || flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").state(&[S::REPLIED]);
    let outside = || {
        flow("client:5000 > node:30080", "client:5000 > pod-b:8080")
            .reversed_at(Hook::UPLINK_EGRESS)
            .state(&[S::REPLIED])
    };
    let host = || flow("pod-a:4000 > vip:53", "pod-a:4000 > node:5353").on_the_node().state(&[S::REPLIED]);
    vec![
        known("a router's error about a pod's request quotes what the pod sent (SEM-079)", pods()).sees(
            pod_out(
                "pod0",
                complaint(TooBig(1300), "gateway:0", "pod-a:0", later("pod-a:4000", "remote:8080")),
            )
            .passes(complaint(TooBig(1300), "gateway:0", "pod-a:0", later("pod-a:4000", "vip:80")))
            .counts(&[IcmpTranslated]),
        ),
        known("a backend's own error comes in the name of its Service (SEM-079)", pods()).sees(
            pod_out(
                "pod0",
                complaint(PortUnreachable, "remote:0", "pod-a:0", later("pod-a:4000", "remote:8080")),
            )
            .passes(complaint(PortUnreachable, "vip:0", "pod-a:0", later("pod-a:4000", "vip:80")))
            .counts(&[IcmpTranslated]),
        ),
        known("an error that quotes the whole packet is right to its last checksum (RFC 5508)", pods()).sees(
            pod_out(
                "pod0",
                complaint(TimeExceeded, "gateway:0", "pod-a:0", later("pod-a:4000", "remote:8080"))
                    .quoting(40),
            )
            .passes(
                complaint(TimeExceeded, "gateway:0", "pod-a:0", later("pod-a:4000", "vip:80")).quoting(40),
            )
            .counts(&[IcmpTranslated]),
        ),
        known("a pod's error about an answer goes to the backend (SEM-079)", pods()).sees(
            pod_in("pod0", complaint(PortUnreachable, "pod-a:0", "vip:0", later("vip:80", "pod-a:4000")))
                .passes(complaint(PortUnreachable, "pod-a:0", "remote:0", later("remote:8080", "pod-a:4000")))
                .counts(&[IcmpTranslated]),
        ),
        known("a local backend's error leaves the node with the node's address (SEM-079)", outside()).sees(
            up_out(
                "up0",
                complaint(PortUnreachable, "pod-b:0", "client:0", later("client:5000", "pod-b:8080")),
            )
            .passes(complaint(PortUnreachable, "node:0", "client:0", later("client:5000", "node:30080")))
            .counts(&[IcmpTranslated]),
        ),
        known("an error about an answer to the outside reaches the local backend (SEM-079)", outside()).sees(
            up_in("up0", complaint(TooBig(1400), "gateway:0", "node:0", later("node:30080", "client:5000")))
                .passes(complaint(TooBig(1400), "gateway:0", "pod-b:0", later("pod-b:8080", "client:5000")))
                .counts(&[IcmpTranslated]),
        ),
        known(
            "an error of the node about a datagram to its own network is in the Service's name (SEM-079)",
            host(),
        )
        .sees(
            pod_out("pod0", complaint(PortUnreachable, "node:0", "pod-a:0", udp("pod-a:4000", "node:5353")))
                .passes(complaint(PortUnreachable, "vip:0", "pod-a:0", udp("pod-a:4000", "vip:53")))
                .counts(&[IcmpTranslated]),
        ),
    ]
}

fn past_the_stack() -> Vec<Row> {
    let begun =
        || flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote");
    let masqueraded = || begun().reverse_next_hop("gateway").state(&[S::REPLIED]);
    let outside = |name| known(name, masqueraded()).client("client:5000");
    let peers = || {
        flow("port-a:4000 > vip:80", "port-a:4000 > port-b:8080")
            .redirected()
            .next_hop("port-b")
            .reverse_next_hop("port-a")
            .state(&[S::REPLIED])
    };
    vec![
        outside("an error about a masqueraded request is sent on to the client (SEM-079)").sees(
            up_in("up0", complaint(TooBig(1300), "node-2:0", "node:0", later("node:snat0", "remote:8080")))
                .redirects(
                    complaint(TooBig(1300), "node-2:0", "client:0", later("client:5000", "node:30080"))
                        .via("gateway"),
                )
                .counts(&[IcmpTranslated]),
        ),
        outside("a remote backend's error comes in the name of the address that was dialled (SEM-079)").sees(
            up_in(
                "up0",
                complaint(PortUnreachable, "remote:0", "node:0", later("node:snat0", "remote:8080")),
            )
            .redirects(
                complaint(PortUnreachable, "node:0", "client:0", later("client:5000", "node:30080"))
                    .via("gateway"),
            )
            .counts(&[IcmpTranslated]),
        ),
        outside("an ICMP redirect about a translated packet is dropped, because it names a gateway for the backend")
            .only(Family::V4, "IPv6 announces a better route by a neighbor message")
            .sees(
                up_in("up0", complaint(Redirect, "gateway:0", "node:0", later("node:snat0", "remote:8080")))
                    .drops(),
            ),
        outside("an error about an answer of a remote backend is sent on to the backend (SEM-079)").sees(
            up_in("up0", complaint(TooBig(1400), "gateway:0", "node:0", later("node:30080", "client:5000")))
                .redirects(
                    complaint(TooBig(1400), "gateway:0", "remote:0", later("remote:8080", "node:snat0"))
                        .via("remote"),
                )
                .counts(&[IcmpTranslated]),
        ),
        row("an error that is the first packet of its direction finds the next hop (SEM-079)")
            .client("client:5000")
            .with_flow(begun())
            .expects_flow(begun().reverse_next_hop("gateway"))
            .sees(
                up_in(
                    "up0",
                    complaint(TooBig(1300), "node-2:0", "node:0", later("node:snat0", "remote:8080")),
                )
                .redirects(
                    complaint(TooBig(1300), "node-2:0", "client:0", later("client:5000", "node:30080"))
                        .via("gateway"),
                )
                .counts(&[IcmpTranslated]),
            ),
        outside("an error on its last hop is dropped and counted").sees(
            up_in(
                "up0",
                complaint(TooBig(1300), "node-2:0", "node:0", later("node:snat0", "remote:8080")).ttl(1),
            )
            .drops()
            .counts(&[DropTtl]),
        ),
        outside("XDP hands errors up, untouched").sees(xdp(
            "up0",
            complaint(TooBig(1300), "node-2:0", "node:0", later("node:snat0", "remote:8080")),
        )),
        known("between ports of one bridge an error takes the way of the flow (SEM-079)", peers()).sees(
            pod_in(
                "port1",
                complaint(PortUnreachable, "port-b:0", "port-a:0", later("port-a:4000", "port-b:8080")),
            )
            .redirects(
                complaint(PortUnreachable, "vip:0", "port-a:0", later("port-a:4000", "vip:80")).via("port-a"),
            )
            .counts(&[IcmpTranslated]),
        ),
    ]
}

fn left_alone() -> Vec<Row> {
    let pods = || flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080");
    vec![
        known("an error about a packet of no flow is left alone", pods()).sees(pod_out(
            "pod0",
            complaint(TooBig(1300), "gateway:0", "pod-a:0", later("pod-a:4001", "remote:8080")),
        )),
        known("an ICMP error is left alone at a hook where its flow is not translated", pods()).sees(up_in(
            "up0",
            complaint(TooBig(1300), "gateway:0", "pod-a:0", later("pod-a:4000", "remote:8080")),
        )),
        known("an error that quotes no ports is left alone", pods()).sees(pod_out(
            "pod0",
            complaint(TooBig(1300), "gateway:0", "pod-a:0", later("pod-a:4000", "remote:8080")).quoting(2),
        )),
        row("an error to a ClusterIP is not answered by another error (RFC 1122)")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .sees(pod_in(
                "pod0",
                complaint(PortUnreachable, "pod-a:0", "vip:0", later("vip:80", "pod-a:4000")),
            )),
    ]
}

/// A row with a flow that exists and does not change.
fn known(name: &'static str, flow: Flow) -> Row {
    row(name).with_flow(flow.clone()).expects_flow(flow)
}
