//! Pods that dial a ClusterIP, and the replies that they get.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::Hook;
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    let mut rows = through_the_stack();
    rows.extend(host_backend());
    rows.extend(past_the_stack());
    rows
}

fn through_the_stack() -> Vec<Row> {
    vec![
        row("a pod's first packet to a ClusterIP goes to a local backend through the stack (SEM-078)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .begins_in_the_stack(pod_in, "pod0", "pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080", Hook::POD_EGRESS),
        row("a pod's first packet to a ClusterIP goes to a remote backend through the stack, source kept (SEM-081)")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .begins_in_the_stack(pod_in, "pod0", "pod-a:4000 > vip:80", "pod-a:4000 > remote:8080", Hook::POD_EGRESS),
        row("a backend with the address of another Service is translated only once (SEM-059)")
            .service(cluster_ip("vip:80", &["other-vip:80"]))
            .service(cluster_ip("other-vip:80", &["pod-b:8080"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "vip:80"))
                    .passes(first("pod-a:4000", "other-vip:80"))
                    .counts(&[FlowNew]),
            )
            .sees(up_out("up0", first("pod-a:4000", "other-vip:80")))
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > other-vip:80")),
        row("a bridged pod whose backend is not a port of its bridge goes through the stack")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .begins_in_the_stack(pod_in, "port0", "port-a:4000 > vip:80", "port-a:4000 > pod-b:8080", Hook::POD_EGRESS),
        row("a later packet of a pod follows its record and counts nothing but its service (SEM-079)")
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080").state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                pod_in("pod0", later("pod-a:4000", "vip:80")).passes(later("pod-a:4000", "pod-b:8080")),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080").state(&[S::REPLIED, S::ESTABLISHED])),
        row("a reply gets the ClusterIP back at the egress of the client's interface (SEM-079)")
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080"))
            .sees(
                pod_out("pod0", later("pod-b:8080", "pod-a:4000")).passes(later("vip:80", "pod-a:4000")),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080").state(&[S::REPLIED])),
        row("a reply is left alone at the backend's ingress")
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080"))
            .sees(pod_in("pod1", later("pod-b:8080", "pod-a:4000")))
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080")),
        row("a reply to a pod is left alone at the uplink's egress")
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080"))
            .sees(up_out("up0", later("pod-b:8080", "pod-a:4000")))
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080")),
        row("a packet towards a pod that belongs to no flow is left alone (SEM-108)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(pod_out("pod0", first("client:5000", "pod-a:80"))),
        row("a pod's packet to no frontend is left alone (SEM-088)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(pod_in("pod0", first("pod-a:4000", "stranger:80"))),
        row("without a route to the backend the stack reports the error")
            .service(cluster_ip("vip:80", &["nowhere:8080"]))
            .begins_in_the_stack(pod_in, "pod0", "pod-a:4000 > vip:80", "pod-a:4000 > nowhere:8080", Hook::POD_EGRESS),
        row("a frontend that names a missing place drops and is counted")
            .service(cluster_ip("vip:80", &["pod-b:8080"]).torn())
            .sees(pod_in("pod0", first("pod-a:4000", "vip:80")).drops().counts(&[DropNoBackend])),
    ]
}

fn host_backend() -> Vec<Row> {
    let there = || flow("pod-a:4000 > vip:53", "pod-a:4000 > node:5353").on_the_node();
    vec![
        row("a pod reaches a backend on its node's own network with its source kept (SEM-086)")
            .service(cluster_ip("vip:53", &["node:5353"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "vip:53"))
                    .passes(first("pod-a:4000", "node:5353"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(there()),
        row("a reply of a backend on the node gets the ClusterIP back, and both records note it")
            .with_flow(there())
            .sees(pod_out("pod0", later("node:5353", "pod-a:4000")).passes(later("vip:53", "pod-a:4000")))
            .expects_flow(there().state(&[S::REPLIED])),
        row("a datagram that the node answers from another of its addresses gets the ClusterIP back")
            .with_flow(there().state(&[S::REPLIED]))
            .sees(pod_out("pod0", udp("bridge:5353", "pod-a:4000")).passes(udp("vip:53", "pod-a:4000")))
            .expects_flow(there().state(&[S::REPLIED])),
        row("a datagram from a stranger is no reply of a backend on the node")
            .with_flow(there())
            .sees(pod_out("pod0", udp("stranger:5353", "pod-a:4000")))
            .expects_flow(there()),
        row("a connection is not answered from another address of the node")
            .with_flow(there())
            .sees(pod_out("pod0", tcp(ACK, "bridge:5353", "pod-a:4000")))
            .expects_flow(there()),
    ]
}

fn past_the_stack() -> Vec<Row> {
    let peers = || flow("port-a:4000 > vip:80", "port-a:4000 > port-b:8080").redirected().next_hop("port-b");
    let itself = || flow("pod-a:4000 > vip:80", "node:snat0 > pod-a:8080").hairpin();
    vec![
        row("packets between two ports of one bridge are redirected past the stack in both directions")
            .service(cluster_ip("vip:80", &["port-b:8080"]))
            .sees(
                pod_in("port0", first("port-a:4000", "vip:80"))
                    .redirects(first("port-a:4000", "port-b:8080").via("port-b"))
                    .counts(&[FlowNew]),
            )
            .sees(
                pod_in("port1", later("port-b:8080", "port-a:4000"))
                    .redirects(later("vip:80", "port-a:4000").via("port-a")),
            )
            .expects_flow(peers().reverse_next_hop("port-a").state(&[S::REPLIED])),
        row("a pod that reaches itself is masqueraded and leaves by its own interface, MACs swapped (SEM-084)")
            .service(cluster_ip("vip:80", &["pod-a:8080"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "vip:80"))
                    .redirects(first("node:snat0", "pod-a:8080").turned())
                    .counts(&[FlowNew]),
            )
            .expects_flow(itself()),
        row("a pod that answers itself gets the ClusterIP back, MACs swapped")
            .client("pod-a:4000")
            .with_flow(itself())
            .sees(
                pod_in("pod0", later("pod-a:8080", "node:snat0"))
                    .redirects(later("vip:80", "pod-a:4000").turned()),
            )
            .expects_flow(itself().state(&[S::REPLIED])),
        row("a bridged pod that reaches itself is masqueraded with its bridge's address (SEM-087)")
            .service(cluster_ip("vip:80", &["port-a:8080"]))
            .sees(
                pod_in("port0", first("port-a:4000", "vip:80"))
                    .redirects(first("bridge:snat0", "port-a:8080").turned())
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("port-a:4000 > vip:80", "bridge:snat0 > port-a:8080").hairpin()),
        row("a pod that reaches itself is dropped where the node has no address to masquerade with")
            .without_snat_addresses()
            .service(cluster_ip("vip:80", &["pod-a:8080"]))
            .sees(pod_in("pod0", first("pod-a:4000", "vip:80")).drops().counts(&[DropNoSnatAddress])),
        row("a pod that dials a NodePort is masqueraded towards a remote backend (SEM-083)")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "node:30080"))
                    .redirects(first("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .sees(
                up_in("up0", later("remote:8080", "node:snat0"))
                    .redirects(later("node:30080", "pod-a:4000").via("pod-a")),
            )
            .expects_flow(
                flow("pod-a:4000 > node:30080", "node:snat0 > remote:8080")
                    .redirected()
                    .next_hop("remote")
                    .reverse_next_hop("pod-a")
                    .state(&[S::REPLIED]),
            ),
        row("a pod that reaches itself by a NodePort is masqueraded like by a ClusterIP (SEM-084)")
            .service(external("any:30080", &["pod-a:8080"]))
            .sees(
                pod_in("pod0", first("pod-a:4000", "node:30080"))
                    .redirects(first("node:snat0", "pod-a:8080").turned())
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > node:30080", "node:snat0 > pod-a:8080").hairpin()),
        row("a pod that dials a NodePort with policy Local chooses from all, source kept (SEM-085)")
            .service(external("any:30080", &["remote:8080"]).local_only(&[]).usable_elsewhere())
            .begins_in_the_stack(
                pod_in,
                "pod0",
                "pod-a:4000 > node:30080",
                "pod-a:4000 > remote:8080",
                Hook::POD_EGRESS,
            ),
    ]
}
