//! Packets that are not plain TCP or UDP: translated correctly or left alone, never in part.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_tests::packet::flow::flow;
use svc_tests::packet::place::Family;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    let mut rows = left_alone();
    rows.push(too_large_for_its_length());
    rows.extend(options());
    rows.extend(udp_checksums());
    rows
}

fn left_alone() -> Vec<Row> {
    // Each as a pod sends it, and as it comes from outside (TC and XDP).
    let mut rows = Vec::new();
    let mut alone = |name, edit: fn(Packet) -> Packet, packet: fn(&'static str, &'static str) -> Packet| {
        rows.push(
            row(name)
                .service(cluster_ip("vip:80", &["remote:8080"]))
                .sees(pod_in("pod0", edit(packet("pod-a:4000", "vip:80")))),
        );
        rows.push(
            row(name)
                .service(external("any:30080", &["remote:8080"]))
                .sees(outside("up0", edit(packet("client:5000", "node:30080")))),
        );
    };
    alone("a transport header that is cut short is left alone", |p| p.cut(7), later);
    alone("a packet without a transport header is left alone", |p| p.cut(0), later);
    alone("a packet that claims more than arrived is left alone", |p| p.claims(400), later);
    alone("a packet that claims to end before its transport header is left alone", |p| p.claims(7), later);
    alone("a packet that claims no length at all is left alone", |p| p.claims(0), later);
    rows.push(
        row("an echo request to the node is left alone (SEM-110)")
            .service(external("any:30080", &["remote:8080"]))
            .sees(outside("up0", ping("client:5000", "node:30080"))),
    );
    rows
}

fn too_large_for_its_length() -> Row {
    let packet = |dst| tcp(ACK, "pod-a:4000", dst).payload(200).claims(0);
    row("a packet too large for its length field, which will be segmented, is translated (BIG TCP)")
        .service(cluster_ip("vip:80", &["remote:8080"]))
        .sees(
            pod_in("pod0", packet("vip:80"))
                .in_segments_of(100)
                .passes(packet("remote:8080"))
                .counts(&[FlowMidstream]),
        )
        .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").state(&[S::ESTABLISHED]))
}

fn options() -> Vec<Row> {
    vec![
        row("options and extension headers are skipped, not assumed away")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "vip:80").with_options())
                    .passes(first("pod-a:4000", "pod-b:8080").with_options())
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080")),
        row("options and extension headers are skipped on the way through")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside("up0", first("client:5000", "node:30080").with_options())
                    .redirects(first("node:snat0", "remote:8080").with_options().via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote"),
            ),
        row("a packet that may be fragmented but is not, or is one fragment alone, is translated (RFC 6946)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "vip:80").fragment(0, false))
                    .passes(first("pod-a:4000", "pod-b:8080").fragment(0, false))
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080")),
    ]
}

fn udp_checksums() -> Vec<Row> {
    let there = || flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080");
    let masqueraded =
        || flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote");
    vec![
        row("a datagram without a checksum has none afterwards (RFC 768)")
            .only(Family::V4, "IPv6 datagrams have a checksum (RFC 8200 section 8.1)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(
                pod_in("pod0", udp("pod-a:4000", "vip:80").without_checksum())
                    .passes(udp("pod-a:4000", "pod-b:8080").without_checksum())
                    .counts(&[FlowNew]),
            )
            .expects_flow(there()),
        row("a datagram without a checksum has none afterwards on the way through (RFC 768)")
            .only(Family::V4, "IPv6 datagrams have a checksum (RFC 8200 section 8.1)")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside("up0", udp("client:5000", "node:30080").without_checksum())
                    .redirects(udp("node:snat0", "remote:8080").without_checksum().via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(masqueraded()),
        row("a checksum that comes out as zero is sent as all ones (RFC 768)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(
                pod_in(
                    "pod0",
                    udp("pod-a:4000", "vip:80").payload(12).that_sums_to_zero("pod-a:4000", "pod-b:8080"),
                )
                .passes(
                    udp("pod-a:4000", "pod-b:8080").payload(12).that_sums_to_zero("pod-a:4000", "pod-b:8080"),
                )
                .counts(&[FlowNew]),
            )
            .expects_flow(there()),
        row("a checksum that comes out as zero on the way through is sent as all ones (RFC 768)")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside(
                    "up0",
                    udp("client:5000", "node:30080")
                        .payload(12)
                        .that_sums_to_zero("node:snat0", "remote:8080"),
                )
                .redirects(
                    udp("node:snat0", "remote:8080")
                        .payload(12)
                        .that_sums_to_zero("node:snat0", "remote:8080")
                        .via("remote"),
                )
                .counts(&[FlowNew]),
            )
            .expects_flow(masqueraded()),
        row("a checksum of all ones becomes an ordinary one")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(
                pod_in(
                    "pod0",
                    udp("pod-a:4000", "vip:80").payload(12).that_sums_to_zero("pod-a:4000", "vip:80"),
                )
                .passes(udp("pod-a:4000", "pod-b:8080").payload(12).that_sums_to_zero("pod-a:4000", "vip:80"))
                .counts(&[FlowNew]),
            )
            .expects_flow(there()),
    ]
}
