//! Fragments: the first one has the ports, the others follow it (SEM-109).

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    let web = || cluster_ip("vip:80", &["remote:8080"]);
    let pods = || flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").udp();
    let part = |src, dst, offset, more| udp(src, dst).fragment(offset, more);
    let node_port = || external("any:30080", &["remote:8080"]);
    let masqueraded =
        || flow("client:5000 > node:30080", "node:snat0 > remote:8080").udp().redirected().next_hop("remote");
    vec![
        row("a pod's fragments go where their first one goes (SEM-109)")
            .service(web())
            .sees(
                pod_in("pod0", part("pod-a:4000", "vip:80", 0, true))
                    .passes(part("pod-a:4000", "remote:8080", 0, true))
                    .counts(&[FlowNew]),
            )
            .sees(
                pod_in("pod0", part("pod-a:0", "vip:0", 100, true))
                    .passes(part("pod-a:0", "remote:0", 100, true)),
            )
            .sees(
                pod_in("pod0", part("pod-a:0", "vip:0", 200, false))
                    .passes(part("pod-a:0", "remote:0", 200, false)),
            )
            .expects_flow(pods()),
        row("the fragments of an answer follow their first one as well (SEM-109)")
            .with_flow(pods())
            .sees(pod_out("pod0", part("remote:8080", "pod-a:4000", 0, true)).passes(part(
                "vip:80",
                "pod-a:4000",
                0,
                true,
            )))
            .sees(
                pod_out("pod0", part("remote:0", "pod-a:0", 100, false))
                    .passes(part("vip:0", "pod-a:0", 100, false)),
            )
            .expects_flow(pods().state(&[S::REPLIED])),
        row("fragments from outside are masqueraded and sent on (SEM-109)")
            .service(node_port())
            .sees(
                up_in("up0", part("client:5000", "node:30080", 0, true))
                    .redirects(part("node:snat0", "remote:8080", 0, true).via("remote"))
                    .counts(&[FlowNew]),
            )
            .sees(
                up_in("up0", part("client:0", "node:0", 100, false))
                    .redirects(part("node:0", "remote:0", 100, false).via("remote")),
            )
            .expects_flow(masqueraded()),
        row("the fragments of a masqueraded flow's answer are sent back (SEM-109)")
            .client("client:5000")
            .with_flow(masqueraded().reverse_next_hop("gateway").state(&[S::REPLIED]))
            .sees(
                up_in("up0", part("remote:8080", "node:snat0", 0, true))
                    .redirects(part("node:30080", "client:5000", 0, true).via("gateway")),
            )
            .sees(
                up_in("up0", part("remote:0", "node:0", 100, false))
                    .redirects(part("node:0", "client:0", 100, false).via("gateway")),
            )
            .expects_flow(masqueraded().reverse_next_hop("gateway").state(&[S::REPLIED])),
        row("a fragment that comes before its first one is dropped, never sent on untranslated (SEM-109)")
            .service(web())
            .sees(pod_in("pod0", part("pod-a:0", "vip:0", 100, false)).drops().counts(&[DropFragment])),
        row("a fragment to a node's address that belongs to no flow is left alone")
            .service(node_port())
            .sees(up_in("up0", part("client:0", "node:0", 100, false))),
        row("XDP hands fragments up, untouched")
            .service(node_port())
            .sees(xdp("up0", part("client:5000", "node:30080", 0, true)))
            .sees(xdp("up0", part("client:0", "node:0", 100, false))),
        row("the first fragment of a segment is translated as a whole one is")
            .service(web())
            .sees(
                pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80").fragment(0, true))
                    .passes(tcp(ACK, "pod-a:4000", "remote:8080").fragment(0, true))
                    .counts(&[FlowMidstream]),
            )
            .expects_flow(
                flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080").tcp().state(&[S::ESTABLISHED]),
            ),
    ]
}
