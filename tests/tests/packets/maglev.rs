//! Selection by Maglev tables: narrow and wide tables, over all backends and over those of this node.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::Hook;
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

/// The place of the client's packet always has another backend than all other places.
pub fn rows() -> Vec<Row> {
    [by_place(), over_local(), garbage()].concat()
}

fn node_port() -> Service {
    external("any:30080", &["far:8080", "remote:8080"])
}

fn by_place() -> Vec<Row> {
    let chosen = |name, pages| {
        row(name).service(node_port().by_maglev(pages, 1, 0)).begins_redirected(
            outside,
            "up0",
            "client:5000 > node:30080",
            "node:snat0 > remote:8080",
        )
    };
    let there =
        || flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote");
    vec![
        chosen("a client from outside gets the backend of its place in a Maglev table of one page", 1),
        chosen("a client from outside gets the backend of its place in a Maglev table of two pages", 2),
        chosen("a client from outside gets the backend of its place in a Maglev table of sixteen pages", 16),
        row("a segment that has lost its record in mid-flow finds its backend by the Maglev table again")
            .service(node_port().by_maglev(1, 1, 0))
            .sees(
                outside("up0", tcp(ACK, "client:5000", "node:30080"))
                    .redirects(tcp(ACK, "node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowMidstream]),
            )
            .expects_flow(there().state(&[S::ESTABLISHED])),
        row("a second Service's Maglev table lies behind the first one's")
            .service(external("vip:80", &["far:8080"]).by_maglev(2, 0, 0))
            .service(node_port().by_maglev(1, 1, 0))
            .begins_redirected(outside, "up0", "client:5000 > node:30080", "node:snat0 > remote:8080"),
    ]
}

fn over_local() -> Vec<Row> {
    // With the `cluster` extent the packet would go to another node.
    let local = |name, pages| {
        row(name)
            .service(node_port().local_only(&["pod-a:8080", "pod-b:8080"]).by_maglev(pages, 1, 0))
            .begins_in_the_stack(
                up_in,
                "up0",
                "client:5000 > node:30080",
                "client:5000 > pod-b:8080",
                Hook::UPLINK_EGRESS,
            )
    };
    vec![
        local("with policy Local a table of one page names backends of this node", 1),
        local("with policy Local a table of two pages names backends of this node", 2),
        row("with policy Local a pod does not ask the table over the backends of this node (SEM-085)")
            .service(
                external("any:30080", &["remote:8080"])
                    .local_only(&["pod-b:8080", "pod-b:8081"])
                    .by_maglev(1, 1, 1),
            )
            .begins_in_the_stack(
                pod_in,
                "pod0",
                "pod-a:4000 > node:30080",
                "pod-a:4000 > remote:8080",
                Hook::POD_EGRESS,
            ),
    ]
}

/// The next extent in the table belongs to another Service, whose backends must not be reached.
fn garbage() -> Vec<Row> {
    let beyond = |name, pages, index| {
        row(name)
            .service(node_port().by_maglev(pages, index, 0))
            .service(external("vip:80", &["pod-b:8080", "pod-b:8081"]))
            .sees(outside("up0", first("client:5000", "node:30080")).drops().counts(&[DropNoBackend]))
    };
    vec![
        beyond("an index just beyond the extent is no backend", 1, 2),
        beyond("the largest index of one octet is no backend", 1, 255),
        beyond("an index of two octets just beyond the extent is no backend", 2, 2),
        beyond("the largest index of two octets is no backend", 2, 65_535),
    ]
}
