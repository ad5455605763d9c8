//! Clients from outside: NodePorts and load-balancer addresses that are routed to the node, at TC and at XDP.

use svc_common::abi::Counter::*;
use svc_common::abi::{FlowState as S, Hook};
use svc_tests::packet::flow::{Flow, flow};
use svc_tests::packet::place::NARROW_MTU;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    let mut rows = remote_backend();
    rows.extend(connections_of_the_node());
    rows.extend(backend_of_this_node());
    rows.extend(which_frontend());
    rows.extend(way_out());
    rows
}

/// The flow of most rows: masqueraded to the pod of another node.
fn masqueraded() -> Flow {
    flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote")
}

fn unreachable_client() -> Flow {
    flow("nowhere:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote")
}

fn remote_backend() -> Vec<Row> {
    vec![
        row("a NodePort's remote backend gets the packet from the node's address by the FIB's next hop (SEM-083)")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(masqueraded()),
        row("a later packet from outside follows its record, whatever the Service says now (SEM-120)")
            .service(external("any:30080", &["far:8080"]))
            .with_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                outside("up0", later("client:5000", "node:30080"))
                    .redirects(later("node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a remote backend's reply goes back to the client from the NodePort")
            .client("client:5000")
            .with_flow(masqueraded())
            .sees(
                outside("up0", later("remote:8080", "node:snat0"))
                    .redirects(later("node:30080", "client:5000").via("gateway")),
            )
            .expects_flow(masqueraded().reverse_next_hop("gateway").state(&[S::REPLIED])),
        row("a connection that lost both its records goes on by the same backend and port")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside("up0", tcp(ACK, "client:5000", "node:30080"))
                    .redirects(tcp(ACK, "node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowMidstream]),
            )
            .expects_flow(masqueraded().state(&[S::ESTABLISHED])),
        row("the masquerade source is the address of the interface by which the packet leaves (SEM-087)")
            .service(external("any:30080", &["far:8080"]))
            .begins_redirected(outside, "up0", "client:5000 > node:30080", "node-b:snat0 > far:8080"),
        row("a reply that comes by another uplink leaves by the client's")
            .client("client:5000")
            .with_flow(flow("client:5000 > node:30080", "node-b:snat0 > far:8080").redirected().next_hop("far"))
            .sees(
                outside("up1", later("far:8080", "node-b:snat0"))
                    .redirects(later("node:30080", "client:5000").via("gateway")),
            )
            .expects_flow(
                flow("client:5000 > node:30080", "node-b:snat0 > far:8080")
                    .redirected()
                    .next_hop("far")
                    .reverse_next_hop("gateway")
                    .state(&[S::REPLIED]),
            ),
        row("a pod of another node that reaches itself by a NodePort is masqueraded (SEM-084)")
            .service(external("any:30080", &["remote:8080"]))
            .begins_redirected(outside, "up0", "remote:5000 > node:30080", "node:snat0 > remote:8080"),
        row("a backend on another node's own network is remote like any other")
            .service(external("any:30080", &["gateway:8080"]))
            .begins_redirected(outside, "up0", "client:5000 > node:30080", "node:snat0 > gateway:8080"),
    ]
}

/// A connection of the node to a backend may have the source port of a client's flow: nf_conntrack chooses any port
/// if the wanted one is used by a pod that it masquerades.
fn connections_of_the_node() -> Vec<Row> {
    let over = || masqueraded().tcp().state(&[S::REPLIED, S::ESTABLISHED, S::FIN_FORWARD, S::FIN_REVERSE]);
    let live = || masqueraded().tcp().state(&[S::REPLIED, S::ESTABLISHED]);
    let answer = || tcp(SYN | ACK, "remote:8080", "node:snat0");
    vec![
        row("a SYN-ACK to the port of a closed flow belongs to the node's own connection, and the flow is removed")
            .client("client:5000")
            .with_flow(over())
            .sees(xdp("up0", answer()))
            .sees(up_in("up0", answer()).counts(&[FlowGaveWay]))
            .sees(outside("up0", tcp(ACK, "remote:8080", "node:snat0"))),
        row("a SYN-ACK of a live flow belongs to the client")
            .client("client:5000")
            .with_flow(live())
            .sees(outside("up0", answer()).redirects(tcp(SYN | ACK, "node:30080", "client:5000").via("gateway")))
            .expects_flow(live().reverse_next_hop("gateway")),
        row("a segment of an ended flow is still the client's")
            .client("client:5000")
            .with_flow(over())
            .sees(
                outside("up0", tcp(ACK, "remote:8080", "node:snat0"))
                    .redirects(tcp(ACK, "node:30080", "client:5000").via("gateway")),
            )
            .expects_flow(over().reverse_next_hop("gateway")),
    ]
}

fn backend_of_this_node() -> Vec<Row> {
    let local =
        || flow("client:5000 > node:30080", "client:5000 > pod-b:8080").reversed_at(Hook::UPLINK_EGRESS);
    let host = || {
        flow("client:5000 > node:30080", "client:5000 > node:8080")
            .reversed_at(Hook::UPLINK_EGRESS)
            .on_the_node()
    };
    vec![
        row("a NodePort's local backend sees the client's own address, through the stack")
            .service(external("any:30080", &["pod-b:8080"]))
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .passes(first("client:5000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(local()),
        row("XDP hands up packets for a backend of this node, untouched")
            .service(external("any:30080", &["pod-b:8080"]))
            .sees(xdp("up0", first("client:5000", "node:30080"))),
        row("XDP hands up later packets of a flow through the stack, untouched")
            .service(external("any:30080", &["pod-b:8080"]))
            .with_flow(local())
            .sees(xdp("up0", later("client:5000", "node:30080")))
            .expects_flow(local()),
        row("a local backend's reply gets the node's address back at the uplink's egress only")
            .with_flow(local())
            .sees(pod_in("pod1", later("pod-b:8080", "client:5000")))
            .sees(
                up_out("up0", later("pod-b:8080", "client:5000")).passes(later("node:30080", "client:5000")),
            )
            .expects_flow(local().state(&[S::REPLIED])),
        row("a NodePort's backend on the node's own network sees the client's own address (SEM-086)")
            .service(external("any:30080", &["node:8080"]))
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .passes(first("client:5000", "node:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(host()),
        row("XDP hands up packets for the node itself, untouched")
            .service(external("any:30080", &["node:8080"]))
            .sees(xdp("up0", first("client:5000", "node:30080"))),
        row("a datagram that the node answers from another of its addresses leaves from the NodePort")
            .with_flow(host().state(&[S::REPLIED]))
            .sees(up_out("up0", udp("node-b:8080", "client:5000")).passes(udp("node:30080", "client:5000")))
            .expects_flow(host().state(&[S::REPLIED])),
        row("XDP hands up the reply to a pod of this node: nothing receives frames behind a plain veth")
            .client("pod-a:4000")
            .with_flow(
                flow("pod-a:4000 > node:30080", "node:snat0 > remote:8080")
                    .redirected()
                    .next_hop("remote")
                    .reverse_next_hop("pod-a")
                    .state(&[S::REPLIED, S::ESTABLISHED]),
            )
            .sees(xdp("up0", later("remote:8080", "node:snat0")))
            .expects_flow(
                flow("pod-a:4000 > node:30080", "node:snat0 > remote:8080")
                    .redirected()
                    .next_hop("remote")
                    .reverse_next_hop("pod-a")
                    .state(&[S::REPLIED, S::ESTABLISHED]),
            ),
    ]
}

fn which_frontend() -> Vec<Row> {
    vec![
        row("a NodePort on an address that does not accept it is left alone (SEM-023)")
            .service(external("any:30080", &["remote:8080"]))
            .sees(outside("up1", first("client:5000", "node-b:30080"))),
        row("a NodePort on an address that is not the node's is left alone (SEM-022, SEM-107)")
            .service(external("any:30080", &["remote:8080"]))
            .sees(outside("up0", first("client:5000", "stranger:30080"))),
        row("an exact address takes precedence over a NodePort (SEM-024)")
            .service(external("any:30080", &["remote:8080"]))
            .service(external("node:30080", &["far:8080"]))
            .begins_redirected(outside, "up0", "client:5000 > node:30080", "node-b:snat0 > far:8080"),
        row("with policy Local a client from outside gets a local backend, source kept (SEM-085)")
            .service(external("any:30080", &["remote:8080"]).local_only(&["pod-b:8080"]))
            .begins_in_the_stack(
                up_in,
                "up0",
                "client:5000 > node:30080",
                "client:5000 > pod-b:8080",
                Hook::UPLINK_EGRESS,
            ),
        row("with policy Local and no local endpoint a client from outside is dropped in silence (SEM-094)")
            .service(external("any:30080", &["remote:8080"]).local_only(&[]).usable_elsewhere())
            .sees(up_in("up0", first("client:5000", "node:30080")).drops().counts(&[DropNoLocalEndpoint])),
        row("an established flow goes on when the last local endpoint goes (SEM-093)")
            .service(external("any:30080", &[]).local_only(&[]).usable_elsewhere())
            .with_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                outside("up0", later("client:5000", "node:30080"))
                    .redirects(later("node:snat0", "remote:8080").via("remote")),
            )
            .expects_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED])),
    ]
}

/// Flow of a client whose packets have a routing table of their own.
fn ruled() -> Flow {
    flow("ruled:5000 > node:30080", "node-b:snat0 > remote:8080").redirected().next_hop("far")
}

fn way_out() -> Vec<Row> {
    let silent =
        || flow("client:5000 > node:30080", "node:snat0 > silent:8080").redirected().unresolved("up0");
    let narrow =
        || flow("client:5000 > node:30080", "node:snat0 > narrow:8080").redirected().next_hop("narrow");
    vec![
        row("a next hop without a MAC is resolved by the stack's neighbour table")
            .service(external("any:30080", &["silent:8080"]))
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat0", "silent:8080").by_neighbor())
                    .counts(&[FlowNew]),
            )
            .expects_flow(silent()),
        row("XDP hands up a packet whose next hop has no MAC yet, untouched, and TC takes up its flow")
            .service(external("any:30080", &["silent:8080"]))
            .sees(xdp("up0", first("client:5000", "node:30080")).counts(&[FlowNew]))
            .sees(
                up_in("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat0", "silent:8080").by_neighbor()),
            )
            .expects_flow(silent()),
        row("a packet larger than the next hop's MTU is answered with that MTU")
            .with_flow(narrow())
            .sees(
                up_in("up0", udp("client:5000", "node:30080").payload(1300))
                    .icmp("node", Problem::TooBig(NARROW_MTU))
                    .counts(&[RejectTooBig]),
            )
            .expects_flow(narrow()),
        row("a segment larger than the next hop's MTU is answered with that MTU")
            .with_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                up_in("up0", tcp(ACK, "client:5000", "node:30080").payload(1300))
                    .icmp("node", Problem::TooBig(NARROW_MTU))
                    .counts(&[RejectTooBig]),
            )
            .expects_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED])),
        row("XDP hands up a packet larger than the next hop takes, untouched")
            .with_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(xdp("up0", later("client:5000", "node:30080").payload(1300)))
            .expects_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a packet that just fits the next hop goes")
            .with_flow(narrow())
            .sees(
                outside("up0", udp("client:5000", "node:30080").payload(usize::from(NARROW_MTU) - 48))
                    .redirects(
                        udp("node:snat0", "narrow:8080").payload(usize::from(NARROW_MTU) - 48).via("narrow"),
                    ),
            )
            .expects_flow(narrow()),
        row("a packet whose segments fit is forwarded")
            .with_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                up_in("up0", tcp(ACK, "client:5000", "node:30080").payload(3000))
                    .in_segments_of(1000)
                    .redirects(tcp(ACK, "node:snat0", "narrow:8080").payload(3000).via("narrow")),
            )
            .expects_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a packet whose segments do not fit is answered with the path's MTU")
            .with_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                up_in("up0", tcp(ACK, "client:5000", "node:30080").payload(3000))
                    .in_segments_of(1400)
                    .icmp("node", Problem::TooBig(NARROW_MTU))
                    .counts(&[RejectTooBig]),
            )
            .expects_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a packet too large for its length field (BIG TCP) is answered with the path's MTU")
            .with_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                up_in("up0", tcp(ACK, "client:5000", "node:30080").payload(3000).claims(0))
                    .in_segments_of(1400)
                    .icmp("node", Problem::TooBig(NARROW_MTU))
                    .counts(&[RejectTooBig]),
            )
            .expects_flow(narrow().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a packet whose time to live expires here is answered with an error and not forwarded")
            .with_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                up_in("up0", later("client:5000", "node:30080").ttl(1))
                    .icmp("node", Problem::TimeExceeded)
                    .counts(&[RejectTtl]),
            )
            .expects_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED])),
        row("XDP hands up a packet whose time to live ends here, untouched")
            .with_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(xdp("up0", later("client:5000", "node:30080").ttl(1)))
            .expects_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a reply whose time to live expires here causes an ICMP error to the backend")
            .client("client:5000")
            .with_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED]).reverse_next_hop("gateway"))
            .sees(
                up_in("up0", later("remote:8080", "node:snat0").ttl(1))
                    .icmp("node", Problem::TimeExceeded)
                    .counts(&[RejectTtl]),
            )
            .expects_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED]).reverse_next_hop("gateway")),
        row("a flow begins with the next hop that a rule for its client's address gives")
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside("up0", first("ruled:5000", "node:30080"))
                    .redirects(first("node-b:snat0", "remote:8080").via("far"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(ruled()),
        row("a flow with a next hop from a rule for its client's address keeps that next hop")
            .client("ruled:5000")
            .with_flow(ruled().state(&[S::REPLIED, S::ESTABLISHED, S::STREAM]).aged(2).aged_back(0))
            .sees(
                outside("up0", later("ruled:5000", "node:30080"))
                    .redirects(later("node-b:snat0", "remote:8080").via("far")),
            )
            .expects_flow(ruled().state(&[S::REPLIED, S::ESTABLISHED, S::STREAM])),
        row("a packet with a time to live of two is forwarded with one")
            .with_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(
                outside("up0", later("client:5000", "node:30080").ttl(2))
                    .redirects(later("node:snat0", "remote:8080").ttl(2).via("remote")),
            )
            .expects_flow(masqueraded().state(&[S::REPLIED, S::ESTABLISHED])),
        row("the source of a masqueraded packet is the route's preferred source, not the interface table's (SEM-087)")
            .without_snat_addresses()
            .service(external("any:30080", &["remote:8080"]))
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(masqueraded()),
        row("a reply to a client without a route is dropped and counted")
            .client("nowhere:5000")
            .with_flow(unreachable_client())
            .sees(up_in("up0", later("remote:8080", "node:snat0")).drops().counts(&[DropNoRoute]))
            .expects_flow(unreachable_client().state(&[S::REPLIED])),
        row("a client from outside whose backend has no route is dropped and counted")
            .service(external("any:30080", &["nowhere:8080"]))
            .sees(outside("up0", first("client:5000", "node:30080")).drops().counts(&[DropNoRoute])),
        row("an interface that does not forward is named by a counter of its own")
            .service(external("any:30080", &["remote:8080"]))
            .sees(outside("up2", first("client:5000", "node:30080")).drops().counts(&[DropForwardingOff])),
    ]
}
