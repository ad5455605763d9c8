//! Admission by source ranges, masquerade, and refusal of unknown ports.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::Hook;
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    [source_ranges(), strangers_to_the_service(), unused_of_pools(), masquerade(), local_backends()].concat()
}

fn source_ranges() -> Vec<Row> {
    let balancer = |backends| external("vip:80", backends).only_for(&["client/0", "pod-a/0"]);
    let there = || flow("client:5000 > vip:80", "node:snat0 > remote:8080").redirected().next_hop("remote");
    vec![
        row("a source within the ranges may use a load balancer's address (SEM-030)")
            .service(balancer(&["remote:8080"]))
            .begins_redirected(outside, "up0", "client:5000 > vip:80", "node:snat0 > remote:8080"),
        row("a source outside the ranges is dropped in silence (SEM-031)")
            .service(balancer(&["remote:8080"]))
            .sees(outside("up0", first("other-client:5000", "vip:80")).drops().counts(&[DropSourceRange])),
        row("a pod outside the source ranges is dropped (SEM-031)")
            .service(balancer(&["remote:8080"]))
            .sees(pod_in("pod1", first("pod-b:4000", "vip:80")).drops().counts(&[DropSourceRange])),
        row("a pod within the ranges comes in (SEM-031)")
            .service(balancer(&["pod-b:8080"]))
            .begins_in_the_stack(
                pod_in,
                "pod0",
                "pod-a:4000 > vip:80",
                "pod-a:4000 > pod-b:8080",
                Hook::POD_EGRESS,
            ),
        row("without an endpoint a source outside the ranges is dropped, not refused (SEM-033)")
            .service(balancer(&[]))
            .sees(up_in("up0", first("other-client:5000", "vip:80")).drops().counts(&[DropSourceRange])),
        row("without an endpoint a source within the ranges is refused (SEM-033)")
            .service(balancer(&[]))
            .sees(
                up_in("up0", first("client:5000", "vip:80"))
                    .icmp("node", Problem::PortUnreachable)
                    .counts(&[RejectNoEndpoint]),
            ),
        row("an established flow goes on when its source is excluded (SEM-031, SEM-093)")
            .service(external("vip:80", &["remote:8080"]).only_for(&["other-client/0"]))
            .client("client:5000")
            .with_flow(there().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                outside("up0", later("client:5000", "vip:80"))
                    .redirects(later("node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(there().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a range of many addresses lets all of them in (SEM-030)")
            .service(external("vip:80", &["remote:8080"]).only_for(&["client/8"]))
            .begins_redirected(outside, "up0", "other-client:5000 > vip:80", "node:snat0 > remote:8080"),
    ]
}

fn strangers_to_the_service() -> Vec<Row> {
    let web = || cluster_ip("vip:80", &["pod-b:8080"]);
    let refused = |step: Step| step.icmp("node", Problem::PortUnreachable).counts(&[RejectUnknownPort]);
    vec![
        row("a port that a ClusterIP does not have is refused (SEM-095)")
            .service(web())
            .sees(refused(pod_in("pod0", first("pod-a:4000", "vip:81")))),
        row("an unknown port of a ClusterIP is refused for a client from outside (SEM-095)")
            .service(web())
            .sees(refused(up_in("up0", first("client:5000", "vip:81")))),
        row("an echo request to a ClusterIP is refused (SEM-095)")
            .service(web())
            .sees(refused(pod_in("pod0", ping("pod-a:4000", "vip:80")))),
        row("an echo request to an external address of a Service is left alone (SEM-110)")
            .service(external("vip:80", &["pod-b:8080"]))
            .sees(pod_in("pod0", ping("pod-a:4000", "vip:80"))),
        row("a port that an external address does not have is left alone (SEM-096)")
            .service(external("vip:80", &["pod-b:8080"]))
            .sees(pod_in("pod0", first("pod-a:4000", "vip:81"))),
        row("the node answers at a ClusterIP that is also its own address (SEM-331)")
            .service(cluster_ip("node-b:80", &["pod-b:8080"]))
            .sees(pod_in("pod0", first("pod-a:4000", "node-b:81"))),
        row("an address of the Service CIDR that no Service has is dropped (SEM-094, SEM-095)")
            .with_service_cidr()
            .service(web())
            .sees(pod_in("pod0", first("pod-a:4000", "unallocated:80")).drops().counts(&[DropUnallocated])),
        row("an echo request to an unallocated address of the Service CIDR is dropped (SEM-095)")
            .with_service_cidr()
            .service(web())
            .sees(pod_in("pod0", ping("pod-a:4000", "unallocated:80")).drops().counts(&[DropUnallocated])),
        row("without --service-cidr a packet to an unallocated address is left alone (SEM-095)")
            .service(web())
            .sees(pod_in("pod0", first("pod-a:4000", "unallocated:80"))),
        row("an address outside the Service CIDR is left alone (SEM-095)")
            .with_service_cidr()
            .service(web())
            .sees(pod_in("pod0", first("pod-a:4000", "stranger:80"))),
        row("XDP hands up packets that TC refuses or drops, untouched")
            .with_service_cidr()
            .service(web())
            .sees(xdp("up0", first("client:5000", "vip:81")))
            .sees(xdp("up0", ping("client:5000", "vip:80")))
            .sees(xdp("up0", first("client:5000", "unallocated:80"))),
    ]
}

fn unused_of_pools() -> Vec<Row> {
    let web = || external("vip:80", &["pod-b:8080"]);
    let dropped = |packet| up_in("up0", packet).drops().counts(&[DropUnallocated]);
    let error = |src, dst, about| complaint(Complaint::TimeExceeded, src, dst, about);
    let datagram = |offset, more| udp("client:5000", "unallocated:80").fragment(offset, more);
    vec![
        row("an address of a pool that no Service has is dropped for clients from outside (SEM-315)")
            .with_pools()
            .service(web())
            .sees(dropped(first("client:5000", "unallocated:80")))
            .sees(dropped(later("client:5000", "unallocated:80")))
            .sees(dropped(sctp("client:5000", "unallocated:80")))
            .sees(dropped(ping("client:5000", "unallocated:80"))),
        row("an ICMP error to an address of a pool that no Service has is dropped, whatever it quotes (SEM-315)")
            .with_pools()
            .service(web())
            .sees(dropped(error("gateway:0", "unallocated:0", later("unallocated:80", "client:5000"))))
            .sees(dropped(error("gateway:0", "unallocated:0", later("unallocated:80", "client:5000")).quoting(2))),
        row("an ICMP error to the node's own address in a pool, or to a Service's, is left alone (SEM-315)")
            .with_pools()
            .service(web())
            .sees(up_in("up0", error("gateway:0", "node:0", later("node:22", "client:5000"))))
            .sees(up_in("up0", error("gateway:0", "vip:0", later("vip:80", "client:5000")))),
        row("XDP hands ICMP errors to unused addresses of a pool up, untouched")
            .with_pools()
            .service(web())
            .sees(xdp("up0", error("gateway:0", "unallocated:0", later("unallocated:80", "client:5000")))),
        row("without any Service an address of a pool is dropped too (SEM-315)")
            .with_pools()
            .sees(dropped(first("client:5000", "vip:80"))),
        row("fragments for an address of a pool that no Service has are dropped (SEM-315)")
            .with_pools()
            .service(web())
            .sees(dropped(datagram(0, true)))
            .sees(dropped(datagram(64, false))),
        row("XDP hands packets for unused addresses of a pool up, untouched")
            .with_pools()
            .service(web())
            .sees(xdp("up0", first("client:5000", "unallocated:80")))
            .sees(xdp("up0", ping("client:5000", "unallocated:80"))),
        row("pods reach a host whose address is in a pool by mistake (SEM-315)")
            .with_pools()
            .service(web())
            .sees(pod_in("pod0", first("pod-a:4000", "unallocated:80")))
            .sees(pod_in("pod0", ping("pod-a:4000", "unallocated:80"))),
        row("an unknown port of a pool's address that a Service has is left alone (SEM-096)")
            .with_pools()
            .service(web())
            .sees(up_in("up0", first("client:5000", "vip:81")))
            .sees(up_in("up0", ping("client:5000", "vip:80"))),
        row("the node answers at its own address in a pool (SEM-315)")
            .with_pools()
            .service(web())
            .sees(up_in("up0", first("client:5000", "node:22")))
            .sees(up_in("up0", ping("client:5000", "node:22"))),
        row("an address outside of all pools is left alone (SEM-315)")
            .with_pools()
            .service(web())
            .sees(up_in("up0", first("client:5000", "remote:80"))),
        row("a Service of a pool's address is served, and its flows go on (SEM-315)")
            .with_pools()
            .service(external("vip:80", &["remote:8080"]))
            .begins_redirected(outside, "up0", "client:5000 > vip:80", "node:snat0 > remote:8080"),
        row("a flow goes on after its Service has given the address back (SEM-315)")
            .with_pools()
            .client("client:5000")
            .with_flow(
                flow("client:5000 > vip:80", "node:snat0 > remote:8080")
                    .redirected()
                    .next_hop("remote")
                    .state(&[S::REPLIED, S::ESTABLISHED]),
            )
            .sees(
                outside("up0", later("client:5000", "vip:80"))
                    .redirects(later("node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(
                flow("client:5000 > vip:80", "node:snat0 > remote:8080")
                    .redirected()
                    .next_hop("remote")
                    .state(&[S::REPLIED, S::ESTABLISHED]),
            ),
    ]
}

fn masquerade() -> Vec<Row> {
    vec![
        row("a client from outside is masqueraded from a ClusterIP to another node (SEM-081, SEM-106)")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .begins_redirected(outside, "up0", "client:5000 > vip:80", "node:snat0 > remote:8080"),
        row("without local pod detection a client from outside keeps its address (SEM-081, PAR-110)")
            .service(cluster_ip("vip:80", &["remote:8080"]).masquerades_none())
            .begins_in_the_stack(
                up_in,
                "up0",
                "client:5000 > vip:80",
                "client:5000 > remote:8080",
                Hook::UPLINK_EGRESS,
            ),
        row("XDP hands up a packet that is not masqueraded, untouched")
            .service(cluster_ip("vip:80", &["remote:8080"]).masquerades_none())
            .sees(xdp("up0", first("client:5000", "vip:80"))),
        row("with --masquerade-all a pod is masqueraded to a ClusterIP (SEM-081, PAR-111)")
            .service(cluster_ip("vip:80", &["remote:8080"]).masquerades_all())
            .begins_redirected(pod_in, "pod0", "pod-a:4000 > vip:80", "node:snat0 > remote:8080"),
        row("masquerade for all leaves policy Local alone (SEM-085)")
            .service(external("any:30080", &["remote:8080"]).local_only(&["pod-b:8080"]))
            .begins_in_the_stack(
                up_in,
                "up0",
                "client:5000 > node:30080",
                "client:5000 > pod-b:8080",
                Hook::UPLINK_EGRESS,
            ),
    ]
}

fn local_backends() -> Vec<Row> {
    let node_port = || external("any:30080", &["pod-b:8080"]).masquerades_to_local();
    let there = || flow("client:5000 > node:30080", "node:snat0 > pod-b:8080").redirected().next_hop("pod-b");
    vec![
        row("with kube-proxy's masquerade a backend of this node sees the node (SEM-083)")
            .service(node_port())
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat0", "pod-b:8080").via("pod-b"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(there()),
        row("the reply to a masqueraded packet is redirected past the stack")
            .client("client:5000")
            .with_flow(there())
            .sees(
                pod_in("pod1", later("pod-b:8080", "node:snat0"))
                    .redirects(later("node:30080", "client:5000").via("gateway")),
            )
            .expects_flow(there().reverse_next_hop("gateway").state(&[S::REPLIED])),
        row("with --masquerade-local-backends a pod that dials a NodePort is masqueraded to its neighbour (SEM-083)")
            .service(node_port())
            .begins_redirected(pod_in, "pod0", "pod-a:4000 > node:30080", "node:snat0 > pod-b:8080"),
        row("with --masquerade-local-backends a backend on the node's own network still sees the client (SEM-086)")
            .service(external("any:30080", &["node:8080"]).masquerades_to_local())
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .passes(first("client:5000", "node:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(
                flow("client:5000 > node:30080", "client:5000 > node:8080")
                    .reversed_at(Hook::UPLINK_EGRESS)
                    .on_the_node(),
            ),
        row("without --masquerade-local-backends a backend of this node sees the client (a deliberate deviation)")
            .service(external("any:30080", &["pod-b:8080"]))
            .begins_in_the_stack(
                up_in,
                "up0",
                "client:5000 > node:30080",
                "client:5000 > pod-b:8080",
                Hook::UPLINK_EGRESS,
            ),
    ]
}
