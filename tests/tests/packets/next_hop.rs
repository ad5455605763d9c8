//! When the next hop of a record is looked up again.

use svc_common::abi::FlowState as S;
use svc_tests::packet::flow::{Flow, flow};
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

/// The masqueraded flow of a client from outside.
fn old() -> Flow {
    let flow = flow("client:5000 > node:30080", "node:snat0 > remote:8080");
    flow.redirected().state(&[S::REPLIED, S::ESTABLISHED, S::STREAM])
}

/// The client's packet, sent to this host.
fn request(hop: &'static str) -> Step {
    outside("up0", later("client:5000", "node:30080")).redirects(later("node:snat0", "remote:8080").via(hop))
}

pub fn rows() -> Vec<Row> {
    let row = |name| row(name).client("client:5000");
    vec![
        row("a record's next hop is taken from the FIB anew once a tick")
            .with_flow(old().next_hop("narrow").aged(2).aged_back(0))
            .sees(request("remote"))
            .expects_flow(old().next_hop("remote")),
        row("the next hop of replies is looked up anew once a tick, also if the client sends first")
            .with_flow(old().next_hop("remote").reverse_next_hop("narrow").aged(2))
            .sees(request("remote"))
            .sees(
                outside("up0", later("remote:8080", "node:snat0"))
                    .redirects(later("node:30080", "client:5000").via("gateway")),
            )
            .expects_flow(old().next_hop("remote").reverse_next_hop("gateway")),
        row("within a tick a record's next hop is not looked up again")
            .with_flow(old().next_hop("gateway"))
            .sees(request("gateway"))
            .expects_flow(old().next_hop("gateway")),
    ]
}
