//! Connections that the node opened, or masquerades for a pod, with a NodePort as source port: replies to them are
//! not for the Service.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::Hook;
use svc_tests::packet::flow::flow;
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

pub fn rows() -> Vec<Row> {
    let mut rows = answers_to_a_syn();
    rows.extend(remembered());
    rows.extend(older());
    rows.extend(sockets());
    rows.extend(stray_resets());
    rows
}

/// The server that the connection goes to.
const SERVER: &str = "client:9000";
const NODE: &str = "node:30080";

fn answers_to_a_syn() -> Vec<Row> {
    let answer = || tcp(SYN | ACK, SERVER, NODE);
    vec![
        row("a SYN-ACK to a NodePort answers a connection of the node, and goes up")
            .service(external("any:30080", &["remote:8080"]))
            .sees(outside("up0", answer())),
        row("a SYN-ACK to a NodePort whose Service has no endpoints is not refused")
            .service(external("any:30080", &[]))
            .sees(outside("up0", answer())),
        row("a SYN-ACK to a NodePort with policy Local and no local endpoint is not dropped")
            .service(external("any:30080", &["remote:8080"]).local_only(&[]).usable_elsewhere())
            .sees(outside("up0", answer())),
        row("a pod's SYN-ACK to a NodePort answers a connection of the node, and goes up")
            .service(external("any:30080", &["remote:8080"]))
            .sees(pod_in("pod0", tcp(SYN | ACK, "pod-a:9000", NODE))),
        row("a SYN-ACK to an external address of the node's goes up")
            .service(external("node:30080", &["remote:8080"]))
            .sees(outside("up0", answer())),
    ]
}

/// Connections that are older than their frontend, and that conntrack translates.
fn older() -> Vec<Row> {
    let cluster = || cluster_ip("vip:80", &["pod-b:8080"]);
    let node_port = || external("any:30080", &["remote:8080"]);
    let to_cluster = || flow("pod-a:5000 > vip:80", "pod-a:5000 > pod-b:8080").reversed_at(Hook::POD_EGRESS);
    vec![
        row("a pod's connection that is older than its Service goes past it (SEM-079)")
            .service(cluster())
            .tracked(to_cluster().tcp())
            .sees(pod_in("pod0", tcp(ACK, "pod-a:5000", "vip:80")))
            .sees(pod_in("pod0", tcp(FIN | ACK, "pod-a:5000", "vip:80"))),
        row("the source port of a connection that is older than its Service may begin a new one (SEM-079)")
            .service(cluster())
            .tracked(to_cluster().tcp())
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:5000", "vip:80"))
                    .passes(tcp(SYN, "pod-a:5000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(to_cluster().tcp()),
        row("another connection in mid-flow is the Service's (SEM-079)")
            .service(cluster())
            .tracked(to_cluster().tcp())
            .sees(
                pod_in("pod0", tcp(ACK, "pod-a:5001", "vip:80"))
                    .passes(tcp(ACK, "pod-a:5001", "pod-b:8080"))
                    .counts(&[FlowMidstream]),
            )
            .expects_flow(
                flow("pod-a:5001 > vip:80", "pod-a:5001 > pod-b:8080").tcp().state(&[S::ESTABLISHED]),
            ),
        row("a datagram to a ClusterIP is the Service's, whatever conntrack knows (SEM-079)")
            .service(cluster())
            .tracked(to_cluster().udp())
            .sees(
                pod_in("pod0", udp("pod-a:5000", "vip:80"))
                    .passes(udp("pod-a:5000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(to_cluster().udp()),
        row("a client's connection that is older than the NodePort goes past it (SEM-079)")
            .service(node_port())
            .tracked(flow("client:9000 > node:30080", "node:snat0 > remote:8080").tcp())
            .sees(outside("up0", tcp(ACK, SERVER, NODE))),
        row("a reply to a pod's datagram that is older than the NodePort goes past it (SEM-079)")
            .service(node_port())
            .tracked(flow("client:9000 > node:30080", "node:snat0 > remote:8080").udp())
            .sees(outside("up0", udp(SERVER, NODE))),
    ]
}

fn remembered() -> Vec<Row> {
    let service = || external("any:30080", &["remote:8080"]);
    let masqueraded =
        || flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote");
    let began =
        || flow("client:9000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote");
    vec![
        row("a connection of the node from a NodePort is remembered, and its replies go up")
            .service(service())
            .sees(up_out("up0", first(NODE, SERVER)))
            .sees(outside("up0", later(SERVER, NODE)))
            .sees(outside("up0", later(SERVER, NODE))),
        row("a connection of the node to a pod is remembered")
            .service(service())
            .sees(pod_out("pod0", first(NODE, "pod-a:9000")))
            .sees(pod_in("pod0", later("pod-a:9000", NODE))),
        row("replies to a connection of the node from a NodePort are not refused if the Service has no endpoints")
            .service(external("any:30080", &[]))
            .sees(up_out("up0", first(NODE, SERVER)))
            .sees(outside("up0", later(SERVER, NODE))),
        row("packets from another port of the server begin a flow")
            .client("client:9001")
            .service(service())
            .sees(up_out("up0", first(NODE, SERVER)))
            .sees(
                outside("up0", first("client:9001", NODE))
                    .redirects(first("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(
                flow("client:9001 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote"),
            ),
        row("a datagram of the node from the port of a masqueraded flow to the same backend removes the flow (SEM-080)")
            .client("client:5000")
            .with_flow(masqueraded().udp().state(&[S::REPLIED]))
            .sees(up_out("up0", udp("node:snat0", "remote:8080")).counts(&[FlowGaveWay]))
            .sees(outside("up0", udp("remote:8080", "node:snat0"))),
        row("a datagram of the node from that port to another backend leaves the flow alone (SEM-080)")
            .client("client:5000")
            .with_flow(masqueraded().udp().state(&[S::REPLIED]))
            .sees(up_out("up0", udp("node:snat0", "remote:8081")))
            .expects_flow(masqueraded().udp().state(&[S::REPLIED])),
        row("a connection of the node from the port of a live masqueraded connection leaves that one alone (SEM-080)")
            .client("client:5000")
            .with_flow(masqueraded().tcp().state(&[S::REPLIED, S::ESTABLISHED]))
            .sees(up_out("up0", tcp(SYN, "node:snat0", "remote:8080")))
            .expects_flow(masqueraded().tcp().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a SYN from the server's port begins a flow")
            .client(SERVER)
            .service(service())
            .sees(up_out("up0", tcp(SYN, NODE, SERVER)))
            .sees(
                outside("up0", tcp(SYN, SERVER, NODE))
                    .redirects(tcp(SYN, "node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(began()),
        row("a connection of the node from another port than a NodePort is not remembered")
            .client(SERVER)
            .service(service())
            .sees(up_out("up0", udp("node:30081", SERVER)))
            .sees(
                outside("up0", udp(SERVER, NODE))
                    .redirects(udp("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(began()),
        row("a pod's packets from a NodePort with its own address are not remembered")
            .client(SERVER)
            .service(service())
            .sees(up_out("up0", udp("pod-a:30080", SERVER)))
            .sees(
                outside("up0", udp(SERVER, NODE))
                    .redirects(udp("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(began()),
        row("a Service's own answers from the NodePort are not remembered")
            .service(external("any:30080", &["node:8080"]))
            .with_flow(
                flow("client:9000 > node:30080", "client:9000 > node:8080")
                    .reversed_at(Hook::UPLINK_EGRESS)
                    .on_the_node(),
            )
            .sees(up_out("up0", udp("node:8080", SERVER)).passes(udp(NODE, SERVER)))
            .expects_flow(
                flow("client:9000 > node:30080", "client:9000 > node:8080")
                    .reversed_at(Hook::UPLINK_EGRESS)
                    .on_the_node()
                    .state(&[S::REPLIED]),
            ),
    ]
}

fn sockets() -> Vec<Row> {
    let service = || external("any:30080", &["remote:8080"]);
    vec![
        row("a reply to a connected socket of the node goes up even if the connection was not remembered")
            .service(service())
            .node_socket(NODE, Some(SERVER))
            .sees(outside("up0", later(SERVER, NODE))),
        row("a reply to a connected socket of the node goes up although the Service has no endpoints")
            .service(external("any:30080", &[]))
            .node_socket(NODE, Some(SERVER))
            .sees(outside("up0", later(SERVER, NODE))),
        row("an unconnected socket of the node does not keep clients from the Service")
            .client("client:5000")
            .service(service())
            .node_socket(NODE, None)
            .sees(
                outside("up0", first("client:5000", NODE))
                    .redirects(first("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote"),
            ),
        row("a socket that listens at the NodePort leaves segments in mid-flow to the Service")
            .client("client:5000")
            .service(service())
            .node_socket(NODE, None)
            .sees(
                outside("up0", tcp(ACK, "client:5000", NODE))
                    .redirects(tcp(ACK, "node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowMidstream]),
            )
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat0 > remote:8080")
                    .redirected()
                    .next_hop("remote")
                    .state(&[S::ESTABLISHED]),
            ),
        row("a socket of the node connected to one client does not keep others from the Service")
            .client("client:5000")
            .service(service())
            .node_socket(NODE, Some(SERVER))
            .sees(
                outside("up0", first("client:5000", NODE))
                    .redirects(first("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote"),
            ),
    ]
}

/// A reply whose record was evicted reaches the node's stack, which knows no such connection.
fn stray_resets() -> Vec<Row> {
    vec![
        row("the stack's reset of a masqueraded connection whose record is missing does not leave")
            .client("client:5000")
            .sees(outside("up0", tcp(ACK, "remote:8080", "node:snat0")))
            .sees(up_out("up0", tcp(RST, "node:snat0", "remote:8080")).drops().counts(&[DropStrayReset])),
        row("the reset of a socket of the node at a port of the masquerade leaves")
            .client("client:5000")
            .sees(up_out("up0", tcp(RST | ACK, "node:snat0", "remote:8080"))),
        row("the stack's reset from another port leaves")
            .sees(up_out("up0", tcp(RST, "node:9000", "remote:8080"))),
        row("a pod's reset from a port of the masquerade leaves")
            .sees(up_out("up0", tcp(RST, "pod-a:1024", "remote:8080"))),
    ]
}
