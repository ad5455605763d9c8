//! No endpoint: the sender gets an error at once, from the correct address, with a message that survives checksum
//! offload. (Every ICMP error is also checked for a card that completes the quoted checksum, see `trial`.)

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_tests::packet::flow::flow;
use svc_tests::packet::place::Family;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    let without_endpoints = || cluster_ip("vip:80", &[]);
    let refused = |step: Step, from| step.icmp(from, Problem::PortUnreachable).counts(&[RejectNoEndpoint]);
    vec![
        row("a pod gets an ICMP error from its node for a Service without endpoints, and no flow begins (SEM-091, SEM-129)")
            .service(without_endpoints())
            .sees(refused(pod_in("pod0", first("pod-a:4000", "vip:80")), "node")),
        row("an ICMP error to a bridged pod has the bridge's address (SEM-092)")
            .service(without_endpoints())
            .sees(refused(pod_in("port0", first("port-a:4000", "vip:80")), "bridge")),
        row("an ICMP error to a client from outside has the dialled address (SEM-092)")
            .service(external("any:30080", &[]))
            .sees(refused(up_in("up0", first("client:5000", "node:30080")), "node")),
        row("an ICMP error to an outside client of a ClusterIP has the uplink's address (SEM-092)")
            .service(without_endpoints())
            .sees(refused(up_in("up0", first("client:5000", "vip:80")), "node")),
        row("an ICMP error through another uplink has that uplink's address (SEM-092)")
            .service(without_endpoints())
            .sees(refused(up_in("up1", first("client:5000", "vip:80")), "node-b")),
        row("XDP hands up packets for a Service without endpoints, untouched")
            .service(without_endpoints())
            .sees(xdp("up0", first("client:5000", "vip:80"))),
        row("a large datagram is quoted by its headers")
            .service(without_endpoints())
            .sees(refused(pod_in("pod0", udp("pod-a:4000", "vip:80").payload(1400)), "node")),
        row("a datagram of odd length is quoted right")
            .service(without_endpoints())
            .sees(refused(pod_in("pod0", udp("pod-a:4000", "vip:80").payload(13)), "node")),
        row("a segment with data is quoted by its headers")
            .service(without_endpoints())
            .sees(refused(pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80").payload(1400)), "node")),
        row("a datagram without a checksum is refused too")
            .only(Family::V4, "IPv6 datagrams have a checksum (RFC 8200 section 8.1)")
            .service(without_endpoints())
            .sees(refused(pod_in("pod0", udp("pod-a:4000", "vip:80").without_checksum()), "node")),
        row("a refused packet may be on its last hop")
            .service(without_endpoints())
            .sees(refused(pod_in("pod0", first("pod-a:4000", "vip:80").ttl(1)), "node")),
        row("a packet with options that has no endpoint is dropped and counted, never half answered")
            .service(without_endpoints())
            .sees(
                pod_in("pod0", first("pod-a:4000", "vip:80").with_options()).drops().counts(&[DropRewrite]),
            ),
        row("with internal policy Local and no local endpoint a pod's packet is dropped in silence (SEM-094)")
            .service(cluster_ip("vip:80", &[]).usable_elsewhere())
            .sees(pod_in("pod0", first("pod-a:4000", "vip:80")).drops().counts(&[DropNoLocalEndpoint])),
        row("an established flow goes on when the last endpoint goes (SEM-093)")
            .service(without_endpoints())
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080").state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(pod_in("pod0", later("pod-a:4000", "vip:80")).passes(later("pod-a:4000", "pod-b:8080")))
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080").state(&[S::REPLIED, S::ESTABLISHED])),
    ]
}
