//! SCTP: like datagrams, with a checksum that is a CRC (RFC 9260). Packets are made here, because no test loads the
//! kernel's SCTP (SEM-010).

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::Complaint::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    let pods = || flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").sctp();
    let masqueraded = || {
        flow("client:5000 > node:30080", "node:snat0 > remote:8080").sctp().redirected().next_hop("remote")
    };
    let narrow = || {
        flow("client:5000 > node:30080", "node:snat0 > narrow:8080").sctp().redirected().next_hop("narrow")
    };
    vec![
        row("SCTP to a ClusterIP is translated, its checksum right for the new port (SEM-010, PAR-016)")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .sees(
                pod_in("pod0", sctp("pod-a:4000", "vip:80"))
                    .passes(sctp("pod-a:4000", "remote:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(pods()),
        row("SCTP to a backend of the same port keeps its checksum (SEM-010, PAR-016)")
            .service(cluster_ip("vip:80", &["pod-b:80"]))
            .sees(
                pod_in("pod0", sctp("pod-a:4000", "vip:80"))
                    .passes(sctp("pod-a:4000", "pod-b:80"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:80").sctp()),
        row("an SCTP answer gets the ClusterIP back (SEM-079)")
            .with_flow(pods())
            .sees(
                pod_out("pod0", sctp("remote:8080", "pod-a:4000")).passes(sctp("vip:80", "pod-a:4000")),
            )
            .expects_flow(pods().state(&[S::REPLIED])),
        row("SCTP through a NodePort is masqueraded, both ports new (SEM-083)")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside("up0", sctp("client:5000", "node:30080"))
                    .redirects(sctp("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(masqueraded()),
        row("an SCTP answer of a remote backend finds the client (SEM-079)")
            .client("client:5000")
            .with_flow(masqueraded().reverse_next_hop("gateway"))
            .sees(
                outside("up0", sctp("remote:8080", "node:snat0"))
                    .redirects(sctp("node:30080", "client:5000").via("gateway")),
            )
            .expects_flow(masqueraded().reverse_next_hop("gateway").state(&[S::REPLIED])),
        row("a long SCTP packet has a correct checksum")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .sees(
                pod_in("pod0", sctp("pod-a:4000", "vip:80").payload(1401))
                    .passes(sctp("pod-a:4000", "remote:8080").payload(1401))
                    .counts(&[FlowNew]),
            )
            .expects_flow(pods()),
        row("an SCTP checksum that a card is to complete stays zero")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside("up0", sctp("client:5000", "node:30080").without_checksum())
                    .redirects(sctp("node:snat0", "remote:8080").without_checksum().via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(masqueraded()),
        row("SCTP segments that have their sizes already are not too large")
            .client("client:5000")
            .with_flow(narrow())
            .sees(
                up_in("up0", sctp("client:5000", "node:30080").without_checksum().payload(3000))
                    .in_segments_of(0xffff)
                    .redirects(sctp("node:snat0", "narrow:8080").without_checksum().payload(3000).via("narrow")),
            )
            .expects_flow(narrow()),
        row("SCTP with options in its IP header has a right checksum as well")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .sees(
                pod_in("pod0", sctp("pod-a:4000", "vip:80").with_options())
                    .passes(sctp("pod-a:4000", "remote:8080").with_options())
                    .counts(&[FlowNew]),
            )
            .expects_flow(pods()),
        row("SCTP without an endpoint is refused by ICMP, not by an ABORT (SEM-091)")
            .service(cluster_ip("vip:80", &[]))
            .sees(
                pod_in("pod0", sctp("pod-a:4000", "vip:80"))
                    .icmp("node", Problem::PortUnreachable)
                    .counts(&[RejectNoEndpoint]),
            ),
        row("an error about an SCTP packet is translated (SEM-079)")
            .with_flow(pods())
            .sees(
                pod_out("pod0", complaint(TooBig(1300), "gateway:0", "pod-a:0", sctp("pod-a:4000", "remote:8080")))
                    .passes(complaint(TooBig(1300), "gateway:0", "pod-a:0", sctp("pod-a:4000", "vip:80")))
                    .counts(&[IcmpTranslated]),
            )
            .expects_flow(pods()),
        row("a first SCTP fragment whose ports change is dropped, because the packet's length is unknown (SEM-010)")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .sees(
                pod_in("pod0", sctp("pod-a:4000", "vip:80").fragment(0, true))
                    .drops()
                    .counts(&[FlowNew, DropRewrite]),
            )
            .expects_flow(pods()),
        row("an SCTP header that is cut short is left alone")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .sees(pod_in("pod0", sctp("pod-a:4000", "vip:80").cut(11))),
    ]
}
