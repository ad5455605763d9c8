//! Replacement of a flow table: its flows go on, and no tuple is given to two flows. Also the counts of inserted and
//! removed records.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::{Hook, Migration};
use svc_tests::packet::flow::{Flow, flow};
use svc_tests::packet::row::*;
use svc_tests::packet::wire::Complaint::*;
use svc_tests::packet::wire::*;

const LIVE: &[S] = &[S::REPLIED, S::ESTABLISHED];

pub fn rows() -> Vec<Row> {
    [found(), begun(), claimed(), direct(), removed(), counted()].concat()
}

fn pods() -> Flow {
    flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080").state(LIVE)
}

fn clients() -> Flow {
    flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote").state(LIVE)
}

/// The old table has the flow, before and after.
fn carrying(name: &'static str, flow: Flow) -> Row {
    row(name).migrates(Migration::READ_OLD).with_carried_flow(flow.clone()).expects_carried_flow(flow)
}

fn found() -> Vec<Row> {
    vec![
        carrying("a packet of an established flow finds its record in the old table", pods())
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .sees(pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80")).passes(tcp(
                ACK,
                "pod-a:4000",
                "pod-b:8080",
            )))
            .expects_flow(pods().forward_only())
            .inserts_and_removes(1, 0),
        carrying("an older record brings the record of its other direction with it", pods().aged(7))
            .sees(pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80")).passes(tcp(
                ACK,
                "pod-a:4000",
                "pod-b:8080",
            )))
            .expects_flow(pods())
            .inserts_and_removes(2, 0),
        carrying("a redirected packet finds its record in the old table", clients())
            .sees(
                outside("up0", tcp(ACK, "client:5000", "node:30080"))
                    .redirects(tcp(ACK, "node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(clients().forward_only()),
        carrying("a reply to a pod finds its record in the old table", pods())
            .sees(pod_out("pod0", tcp(ACK, "pod-b:8080", "pod-a:4000")).passes(tcp(
                ACK,
                "vip:80",
                "pod-a:4000",
            )))
            .expects_flow(pods().reverse_only())
            .inserts_and_removes(1, 0),
        carrying(
            "a reply from another node finds its record in the old table",
            clients().reverse_next_hop("gateway"),
        )
        .client("client:5000")
        .sees(
            outside("up0", tcp(ACK, "remote:8080", "node:snat0"))
                .redirects(tcp(ACK, "node:30080", "client:5000").via("gateway")),
        )
        .expects_flow(clients().reverse_next_hop("gateway").reverse_only()),
        carrying(
            "a datagram from another address of the node finds its record in the old table",
            on_the_node(),
        )
        .sees(pod_out("pod0", udp("bridge:5353", "pod-a:4000")).passes(udp("vip:53", "pod-a:4000")))
        .expects_flow(on_the_node().reverse_only()),
        carrying("an ICMP error finds the record of the quoted packet in the old table", pods().tcp())
            .sees(
                pod_out(
                    "pod0",
                    complaint(TooBig(1300), "gateway:0", "pod-a:0", tcp(ACK, "pod-a:4000", "pod-b:8080")),
                )
                .passes(complaint(TooBig(1300), "gateway:0", "pod-a:0", tcp(ACK, "pod-a:4000", "vip:80")))
                .counts(&[IcmpTranslated]),
            )
            .expects_flow(pods().tcp().reverse_only()),
        carrying("a record of the new table comes before one of the old table", pods())
            .with_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").state(LIVE))
            .sees(pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80")).passes(tcp(
                ACK,
                "pod-a:4000",
                "remote:8080",
            )))
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").state(LIVE))
            .inserts_and_removes(0, 0),
        carrying("while no table is replaced the other table is not asked", pods())
            .migrates(Migration::NONE)
            .service(cluster_ip("vip:80", &["remote:8080"]))
            .begins_in_the_stack(
                pod_in,
                "pod0",
                "pod-a:4000 > vip:80",
                "pod-a:4000 > remote:8080",
                Hook::POD_EGRESS,
            ),
        row("a closed connection of the old table is replaced by a SYN")
            .migrates(Migration::READ_OLD)
            .with_carried_flow(closed())
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:4000", "vip:80"))
                    .passes(tcp(SYN, "pod-a:4000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080"))
            .inserts_and_removes(4, 2),
    ]
}

fn on_the_node() -> Flow {
    flow("pod-a:4000 > vip:53", "pod-a:4000 > node:5353").on_the_node().state(&[S::REPLIED])
}

fn closed() -> Flow {
    pods().state(&[S::REPLIED, S::ESTABLISHED, S::FIN_FORWARD, S::FIN_REVERSE])
}

fn begun() -> Vec<Row> {
    let begins = |name, migration| {
        row(name)
            .migrates(migration)
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .begins_in_the_stack(
                pod_in,
                "pod0",
                "pod-a:4000 > vip:80",
                "pod-a:4000 > pod-b:8080",
                Hook::POD_EGRESS,
            )
            .inserts_and_removes(2, 0)
    };
    vec![
        // Programs over both tables share the table of flows that are not assured.
        begins("a flow that begins while both tables are in use is written once", Migration::WRITE_BOTH),
        begins(
            "a flow that begins while the old table is only read is written to the new one",
            Migration::READ_OLD,
        ),
        begins("a flow that begins while no table is replaced is written once", Migration::NONE),
        row("a flow that is assured while both tables are in use is written to both")
            .migrates(Migration::WRITE_BOTH)
            .with_flow(clients().tcp().state(&[S::REPLIED]))
            .sees(
                outside("up0", tcp(ACK, "client:5000", "node:30080"))
                    .redirects(tcp(ACK, "node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(clients().tcp())
            .expects_carried_flow(clients().tcp())
            .inserts_and_removes(2, 2),
        row("a flow that is assured while no table is replaced moves to the flow table")
            .with_flow(clients().tcp().state(&[S::REPLIED]))
            .sees(
                outside("up0", tcp(ACK, "client:5000", "node:30080"))
                    .redirects(tcp(ACK, "node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(clients().tcp())
            .inserts_and_removes(2, 2),
    ]
}

fn claimed() -> Vec<Row> {
    let theirs = || {
        flow("other-client:9 > node:30080", "node:snat0 > remote:8080")
            .redirected()
            .next_hop("remote")
            .state(&[S::REPLIED])
    };
    let ours =
        || flow("client:5000 > node:30080", "node:snat1 > remote:8080").redirected().next_hop("remote");
    let next_port = |name, migration| {
        row(name)
            .migrates(migration)
            .service(external("any:30080", &["remote:8080"]))
            .with_carried_flow(theirs())
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat1", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(theirs().reverse_only())
            .expects_flow(ours())
            .expects_carried_flow(theirs())
            .inserts_and_removes(3, 0)
    };
    vec![
        next_port("a port that a live flow of the old table has is not given away", Migration::READ_OLD),
        next_port("nor while both tables are in use", Migration::WRITE_BOTH),
        row("a port that a live flow has in the new table alone is not given away")
            .migrates(Migration::WRITE_BOTH)
            .service(external("any:30080", &["remote:8080"]))
            .with_flow(theirs())
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat1", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(theirs())
            .expects_flow(ours())
            .inserts_and_removes(2, 0),
    ]
}

fn direct() -> Vec<Row> {
    let beside = || flow("pod-a:4000 > pod-b:8080", "pod-a:snat0 > pod-b:8080").direct();
    vec![
        row("a direct connection gets another source port beside an open flow of the old table (SEM-080)")
            .migrates(Migration::READ_OLD)
            .with_carried_flow(pods().tcp())
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:4000", "pod-b:8080"))
                    .passes(tcp(SYN, "pod-a:snat0", "pod-b:8080"))
                    .counts(&[FlowDirect])
                    .uncounted(),
            )
            .expects_carried_flow(pods().tcp())
            .expects_flow(pods().tcp())
            .expects_flow(beside().tcp()),
    ]
}

fn removed() -> Vec<Row> {
    let removed = |name, migration| {
        row(name)
            .migrates(migration)
            .with_carried_flow(closed().tcp())
            .sees(pod_in("pod0", tcp(SYN, "pod-a:4000", "pod-b:8080")).counts(&[FlowGaveWay]))
            .inserts_and_removes(2, 2)
    };
    vec![
        removed("a removed flow leaves both tables while the old one is read", Migration::READ_OLD),
        removed("a removed flow leaves both tables while both are in use", Migration::WRITE_BOTH),
    ]
}

fn counted() -> Vec<Row> {
    vec![
        row("a flow that replaces an assured one is not assured")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(closed().tcp())
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:4000", "vip:80"))
                    .passes(tcp(SYN, "pod-a:4000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080"))
            .inserts_and_removes(2, 2),
        row("removing a flow removes two records")
            .with_flow(closed().tcp())
            .sees(pod_in("pod0", tcp(SYN, "pod-a:4000", "pod-b:8080")).counts(&[FlowGaveWay]))
            .inserts_and_removes(0, 2),
        row("a record that is made again is one record")
            .with_flow(pods().aged(7).forward_only())
            .sees(
                pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80"))
                    .passes(tcp(ACK, "pod-a:4000", "pod-b:8080"))
                    .counts(&[FlowTwinRestored]),
            )
            .expects_flow(pods())
            .inserts_and_removes(1, 0),
    ]
}
