//! Session affinity: `sessionAffinity: ClientIP` (SEM-230 to SEM-238).

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::Hook;
use svc_tests::packet::affinity::affinity_entry;
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

/// So many backends that a row hardly passes by chance.
const MANY: &[&str] = &[
    "remote:8080",
    "remote:8081",
    "remote:8082",
    "remote:8083",
    "pod-b:8080",
    "remote:8084",
    "remote:8085",
    "remote:8086",
    "remote:8087",
];
const SECONDS: u32 = 100;

pub fn rows() -> Vec<Row> {
    let mut rows = pods();
    rows.extend(outside_clients());
    rows
}

fn pods() -> Vec<Row> {
    let vip = |backends| cluster_ip("vip:80", backends).affine(SECONDS);
    let begins = || {
        pod_in("pod0", first("pod-a:4000", "vip:80"))
            .passes(first("pod-a:4000", "pod-b:8080"))
            .counts(&[FlowNew])
    };
    let begun = || flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080");
    vec![
        row("a client's first flow creates its session affinity (SEM-232)")
            .service(vip(&["pod-b:8080"]))
            .sees(begins())
            .expects_flow(begun())
            .expects_affinity(affinity_entry("pod-a", "pod-b:8080", SECONDS)),
        row("a new flow goes to the client's backend by session affinity and restarts the timeout (SEM-231, SEM-232)")
            .service(vip(MANY))
            .with_affinity(affinity_entry("pod-a", "pod-b:8080", 50))
            .sees(begins())
            .expects_flow(begun())
            .expects_affinity(affinity_entry("pod-a", "pod-b:8080", SECONDS)),
        row("session affinity of one client does not affect others (SEM-230)")
            .service(vip(&["pod-b:8080"]))
            .with_affinity(affinity_entry("pod-b", "remote:8080", 50))
            .sees(begins())
            .expects_flow(begun())
            .expects_affinity(affinity_entry("pod-b", "remote:8080", 50))
            .expects_affinity(affinity_entry("pod-a", "pod-b:8080", SECONDS)),
        row("ClusterIP and NodePort of a service port share their clients' affinity entries, whatever the source port (SEM-230)")
            .service(vip(MANY))
            .service(external("any:30080", MANY).affine(SECONDS))
            .with_affinity(affinity_entry("pod-a", "pod-b:8080", 50))
            .sees(begins())
            .sees(
                pod_in("pod0", first("pod-a:4001", "node:30080"))
                    .passes(first("pod-a:4001", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(begun())
            .expects_flow(flow("pod-a:4001 > node:30080", "pod-a:4001 > pod-b:8080"))
            .expects_affinity(affinity_entry("pod-a", "pod-b:8080", SECONDS)),
        row("a backend that may not be chosen any more loses its clients to another (SEM-233)")
            .service(vip(&["pod-b:8080"]))
            .with_affinity(affinity_entry("pod-a", "remote:8080", 50))
            .sees(begins())
            .expects_flow(begun())
            .expects_affinity(affinity_entry("pod-a", "pod-b:8080", SECONDS)),
        row("packets of a flow that is there leave its client's affinity entry alone (SEM-232)")
            .service(vip(MANY))
            .with_flow(begun().state(&[S::REPLIED, S::ESTABLISHED]))
            .with_affinity(affinity_entry("pod-a", "pod-b:8080", 50))
            .sees(
                pod_in("pod0", later("pod-a:4000", "vip:80")).passes(later("pod-a:4000", "pod-b:8080")),
            )
            .expects_flow(begun().state(&[S::REPLIED, S::ESTABLISHED]))
            .expects_affinity(affinity_entry("pod-a", "pod-b:8080", 50)),
        row("a segment in mid-flow goes to its client's backend, and creates no session affinity (SEM-232)")
            .service(vip(MANY))
            .with_affinity(affinity_entry("pod-a", "pod-b:8080", 50))
            .sees(
                pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80"))
                    .passes(tcp(ACK, "pod-a:4000", "pod-b:8080"))
                    .counts(&[FlowMidstream]),
            )
            .expects_flow(begun().state(&[S::ESTABLISHED]))
            .expects_affinity(affinity_entry("pod-a", "pod-b:8080", 50)),
        row("without session affinity old entries have no effect, and no entry is made (SEM-235)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_affinity(affinity_entry("pod-b", "pod-b:8080", 50))
            .sees(begins())
            .expects_flow(begun())
            .expects_affinity(affinity_entry("pod-b", "pod-b:8080", 50)),
        row("a flow that cannot begin creates no session affinity")
            .service(external("vip:80", &["nowhere:8080"]).affine(SECONDS))
            .sees(pod_in("pod0", first("pod-a:4000", "vip:80")).drops().counts(&[DropNoRoute])),
    ]
}

fn outside_clients() -> Vec<Row> {
    let node_port = || external("any:30080", MANY).affine(SECONDS);
    let to_remote = || {
        outside("up0", first("client:5000", "node:30080"))
            .redirects(first("node:snat0", "remote:8085").via("remote"))
            .counts(&[FlowNew])
    };
    let begun =
        || flow("client:5000 > node:30080", "node:snat0 > remote:8085").redirected().next_hop("remote");
    vec![
        row("an outside client is known by its own address, not by the one it is masqueraded with (SEM-236)")
            .service(node_port())
            .with_affinity(affinity_entry("client", "remote:8085", 50))
            .sees(to_remote())
            .expects_flow(begun())
            .expects_affinity(affinity_entry("client", "remote:8085", SECONDS)),
        row("XDP leaves a client whose backend is on this node to the stack, and its affinity entry alone")
            .service(node_port())
            .with_affinity(affinity_entry("client", "pod-b:8080", 50))
            .sees(xdp("up0", first("client:5000", "node:30080")))
            .expects_affinity(affinity_entry("client", "pod-b:8080", 50)),
        row("with policy Local a client from outside does not keep a backend on another node (SEM-233)")
            .service(external("any:30080", MANY).local_only(&["pod-b:8080"]).affine(SECONDS))
            .with_affinity(affinity_entry("client", "remote:8085", 50))
            .begins_in_the_stack(
                up_in,
                "up0",
                "client:5000 > node:30080",
                "client:5000 > pod-b:8080",
                Hook::UPLINK_EGRESS,
            )
            .expects_affinity(affinity_entry("client", "pod-b:8080", SECONDS)),
    ]
}
