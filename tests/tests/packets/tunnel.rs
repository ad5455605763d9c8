//! Devices without an Ethernet header. Their programs read the IP header at the packet's first octet, and give the packet an
//! Ethernet header before they redirect it.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::{Hook, IfaceFlags};
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    [ingress(), egress()].concat()
}

/// Both sides have sent packets.
const OPEN: &[S] = &[S::REPLIED, S::ESTABLISHED];

/// The first packet of a flow. BPF_PROG_TEST_RUN refuses what is too short for Ethernet and IP headers.
fn new(src: &'static str, dst: &'static str) -> Packet {
    first(src, dst).payload(32)
}

fn ingress() -> Vec<Row> {
    let here = || {
        flow("tunnel-client:5000 > node:30080", "tunnel-client:5000 > pod-a:8080")
            .reversed_at(Hook::UPLINK_EGRESS)
    };
    let elsewhere = || {
        flow("tunnel-client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote")
    };
    let behind = || flow("client:5000 > node:30080", "node:snat0 > tunnel-pod:8080").redirected();
    vec![
        row("a tunnel's first packet to a NodePort goes to a pod of the node without an Ethernet header")
            .service(external("any:30080", &["pod-a:8080"]))
            .sees(
                tunnel_in(new("tunnel-client:5000", "node:30080"))
                    .passes(new("tunnel-client:5000", "pod-a:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(here()),
        row("a tunnel's later packet follows its record without an Ethernet header")
            .service(external("any:30080", &["remote:8080"]))
            .with_flow(here().state(OPEN))
            .sees(
                tunnel_in(later("tunnel-client:5000", "node:30080"))
                    .passes(later("tunnel-client:5000", "pod-a:8080")),
            )
            .expects_flow(here().state(OPEN)),
        row("a tunnel's first packet to a backend behind another device leaves with an Ethernet header")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                tunnel_in(new("tunnel-client:5000", "node:30080"))
                    .redirects(new("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(elsewhere()),
        row("a tunnel's later packet leaves with an Ethernet header, too")
            .with_flow(elsewhere().state(OPEN))
            .sees(
                tunnel_in(later("tunnel-client:5000", "node:30080"))
                    .redirects(later("node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(elsewhere().state(OPEN)),
        row("a reply of a backend behind a tunnel leaves to its client with an Ethernet header")
            .client("client:5000")
            .with_flow(behind())
            .sees(
                tunnel_in(later("tunnel-pod:8080", "node:snat0"))
                    .redirects(later("node:30080", "client:5000").via("gateway")),
            )
            .expects_flow(behind().reverse_next_hop("gateway").state(&[S::REPLIED])),
        row("a tunnel's packet to a port that no Service has is left alone")
            .service(external("any:30080", &["remote:8080"]))
            .sees(tunnel_in(new("tunnel-client:5000", "node:22")))
            .sees(tunnel_in(new("tunnel-client:5000", "stranger:80"))),
    ]
}

fn egress() -> Vec<Row> {
    let served =
        || flow("client:5000 > node:30080", "client:5000 > tunnel-pod:8080").reversed_at(Hook::UPLINK_EGRESS);
    let masqueraded = || {
        flow("tunnel-client:5000 > remote:8080", "node:snat0 > remote:8080").second_at(Hook::UPLINK_EGRESS)
    };
    let translated = || {
        flow("tunnel-client:5000 > node:30080", "tunnel-client:5000 > remote:8080")
            .reversed_at(Hook::UPLINK_EGRESS)
    };
    vec![
        row("a reply that leaves by a tunnel gets the address and port that its client has dialled")
            .with_flow(served())
            .sees(
                tunnel_out(later("tunnel-pod:8080", "client:5000"))
                    .passes(later("node:30080", "client:5000")),
            )
            .expects_flow(served().state(&[S::REPLIED])),
        row("a connection that comes and leaves by tunnels is masqueraded where it leaves")
            .client("tunnel-client:5000")
            .interfaces_are(IfaceFlags::THROUGH_STACK)
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                tunnel_in(new("tunnel-client:5000", "node:30080"))
                    .passes(new("tunnel-client:5000", "remote:8080"))
                    .counts(&[FlowNew]),
            )
            .sees(
                tunnel_out(new("tunnel-client:5000", "remote:8080"))
                    .passes(new("node:snat0", "remote:8080"))
                    .uncounted(),
            )
            .expects_flow(translated())
            .expects_flow(masqueraded()),
        row("a later packet of it is masqueraded by its record")
            .client("tunnel-client:5000")
            .with_flow(masqueraded().state(OPEN))
            .sees(
                tunnel_out(later("tunnel-client:5000", "remote:8080"))
                    .passes(later("node:snat0", "remote:8080"))
                    .uncounted(),
            )
            .expects_flow(masqueraded().state(OPEN)),
        row("a packet of no flow leaves by a tunnel as it is")
            .service(external("any:30080", &["remote:8080"]))
            .sees(tunnel_out(new("tunnel-client:5000", "stranger:80"))),
    ]
}
