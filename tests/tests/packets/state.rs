//! States of flows: lifetimes, records of both directions, tuple conflicts.

use svc_common::abi::Counter::*;
use svc_common::abi::FlowState as S;
use svc_common::abi::limits::SNAT_TRIES_AT_REST;
use svc_tests::packet::flow::{Flow, flow};
use svc_tests::packet::row::*;
use svc_tests::packet::wire::*;

/// An established connection, or a stream of datagrams.
pub const LIVE: &[S] = &[S::REPLIED, S::ESTABLISHED, S::STREAM];
pub const CLOSED: &[S] = &[S::REPLIED, S::ESTABLISHED, S::FIN_FORWARD, S::FIN_REVERSE];
/// [`LIVE`] without the bit that has another meaning for a TCP connection after a reset.
const LIVE_TCP: &[S] = &[S::REPLIED, S::ESTABLISHED];
const IGNORED_RESET: &[S] = &[S::RESET, S::CLIENT_AFTER_RESET, S::BACKEND_AFTER_RESET];
const STREAM: &[S] = &[S::REPLIED, S::STREAM];

pub fn rows() -> Vec<Row> {
    let mut rows = tcp_states();
    rows.extend(ages());
    rows.extend(twins());
    rows.extend(collisions());
    rows
}

/// The flow that exists before most rows.
fn old() -> Flow {
    flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080")
}

/// The flow that replaces it: the Service has another backend by now.
fn anew() -> Flow {
    flow("pod-a:4000 > vip:80", "pod-a:4000 > remote:8080")
}

/// A client's packet that begins a flow to the new backend.
fn begins(packet: fn(&'static str, &'static str) -> Packet) -> Step {
    pod_in("pod0", packet("pod-a:4000", "vip:80"))
        .passes(packet("pod-a:4000", "remote:8080"))
        .counts(&[FlowNew])
}

/// A client's packet of the old flow.
fn follows(packet: fn(&'static str, &'static str) -> Packet) -> Step {
    pod_in("pod0", packet("pod-a:4000", "vip:80")).passes(packet("pod-a:4000", "pod-b:8080"))
}

fn tcp_states() -> Vec<Row> {
    fn syn(src: &'static str, dst: &'static str) -> Packet {
        tcp(SYN, src, dst)
    }
    let there = |flags| {
        pod_in("pod0", tcp(flags, "pod-a:4000", "vip:80")).passes(tcp(flags, "pod-a:4000", "pod-b:8080"))
    };
    let back = |flags| {
        pod_out("pod0", tcp(flags, "pod-b:8080", "pod-a:4000")).passes(tcp(flags, "vip:80", "pod-a:4000"))
    };
    let service = || cluster_ip("vip:80", &["remote:8080"]);
    let live = |more: &[S]| old().state(&[LIVE_TCP, more].concat());
    vec![
        row("a handshake establishes both records")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(there(SYN).counts(&[FlowNew]))
            .sees(back(SYN | ACK))
            .sees(there(ACK))
            .expects_flow(old().state(&[S::REPLIED, S::ESTABLISHED])),
        row("a SYN alone establishes nothing").with_flow(old()).sees(there(SYN)).expects_flow(old()),
        row("both records note the client's FIN")
            .with_flow(live(&[]))
            .sees(there(FIN | ACK))
            .expects_flow(live(&[S::FIN_FORWARD])),
        row("both records note the backend's FIN")
            .with_flow(live(&[]))
            .sees(back(FIN | ACK))
            .expects_flow(live(&[S::FIN_REVERSE])),
        row("both records note both FINs, and the last ACK is still translated")
            .with_flow(live(&[]))
            .sees(there(FIN | ACK))
            .sees(back(FIN | ACK))
            .sees(there(ACK))
            .expects_flow(live(&[S::FIN_FORWARD, S::FIN_REVERSE])),
        row("both records note the client's reset")
            .with_flow(live(&[]))
            .sees(there(RST))
            .expects_flow(live(&[S::RESET])),
        row("both records note the backend's reset")
            .with_flow(live(&[]))
            .sees(back(RST | ACK))
            .expects_flow(live(&[S::RESET])),
        row("a backend's segments are given the ClusterIP back after the reset as before (SEM-089)")
            .with_flow(live(&[S::RESET]))
            .sees(back(ACK))
            .sees(back(FIN | ACK))
            .sees(back(RST))
            .expects_flow(live(&[S::RESET, S::FIN_REVERSE, S::BACKEND_AFTER_RESET])),
        row("a client's reset that both sides ignore ends nothing: the flow outlives its lifetime after a reset")
            .with_flow(live(&[]))
            .sees(there(RST))
            .sees(back(ACK))
            .sees(there(ACK))
            .expects_flow(live(IGNORED_RESET)),
        row("a backend's reset that both sides ignore ends nothing")
            .with_flow(live(&[]))
            .sees(back(RST))
            .sees(there(ACK))
            .sees(back(ACK))
            .expects_flow(live(IGNORED_RESET)),
        row("a SYN follows a connection that goes on after a reset, however long it was idle")
            .service(service())
            .with_flow(live(IGNORED_RESET).aged(11))
            .sees(there(SYN))
            .expects_flow(live(IGNORED_RESET)),
        row("a SYN on a connection that both have closed selects anew")
            .service(service())
            .with_flow(live(&[S::FIN_FORWARD, S::FIN_REVERSE]))
            .sees(begins(syn))
            .expects_flow(anew())
            .expects_flow(live(&[S::FIN_FORWARD, S::FIN_REVERSE]).reverse_only()),
        row("a SYN on a connection that was reset selects anew")
            .service(service())
            .with_flow(live(&[S::RESET]))
            .sees(begins(syn))
            .expects_flow(anew())
            .expects_flow(live(&[S::RESET]).reverse_only()),
        row("a SYN on a half-closed connection follows that connection")
            .service(service())
            .with_flow(live(&[S::FIN_REVERSE]))
            .sees(there(SYN))
            .expects_flow(live(&[S::FIN_REVERSE])),
        row("a repeated SYN goes to the same backend")
            .service(service())
            .with_flow(old())
            .sees(there(SYN))
            .expects_flow(old()),
        row("a closed connection that is opened again to the same backend takes its reverse record over")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(live(&[S::FIN_FORWARD, S::FIN_REVERSE]))
            .sees(there(SYN).counts(&[FlowNew]))
            .expects_flow(old()),
        row("a segment in mid-flow without a record is placed and counted")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(there(ACK).counts(&[FlowMidstream]))
            .expects_flow(old().state(&[S::ESTABLISHED])),
        row("a closing segment in mid-flow makes a closing flow (SEM-123)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(there(FIN | ACK).counts(&[FlowMidstream]))
            .expects_flow(old().state(&[S::ESTABLISHED, S::FIN_FORWARD])),
        row("a reset in mid-flow makes an ended flow (SEM-123)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(there(RST).counts(&[FlowMidstream]))
            .expects_flow(old().state(&[S::RESET])),
        row("a SYN-ACK to a ClusterIP is mid-flow, not a connection")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .sees(there(SYN | ACK).counts(&[FlowMidstream]))
            .expects_flow(old()),
        row("an established connection goes on when its Service is deleted (SEM-120, SEM-121)")
            .with_flow(old().state(LIVE))
            .sees(there(ACK))
            .expects_flow(old().state(LIVE)),
    ]
}

fn ages() -> Vec<Row> {
    let service = || cluster_ip("vip:80", &["remote:8080"]);
    vec![
        row("a datagram flow without answer ends after 30 seconds (SEM-123)")
            .service(service())
            .with_flow(old().aged(31))
            .sees(begins(udp))
            .expects_flow(anew())
            .expects_flow(old().aged(31).reverse_only()),
        row("a datagram flow without answer lives for 30 seconds (SEM-123)")
            .service(service())
            .with_flow(old().aged(29).aged_back(0))
            .sees(follows(udp))
            .expects_flow(old().state(&[S::STREAM])),
        row("a datagram with its reply ends after 30 seconds (SEM-123)")
            .service(service())
            .with_flow(old().state(&[S::REPLIED]).aged(31))
            .sees(begins(udp))
            .expects_flow(anew())
            .expects_flow(old().state(&[S::REPLIED]).aged(31).reverse_only()),
        row("a datagram with its reply lives for 30 seconds, and is a stream afterwards (SEM-123)")
            .service(service())
            .with_flow(old().state(&[S::REPLIED]).aged(29).aged_back(0))
            .sees(follows(udp))
            .expects_flow(old().state(&[S::REPLIED, S::ESTABLISHED, S::STREAM])),
        row("a packet after one tick makes no stream yet (SEM-123)")
            .service(service())
            .with_flow(old().state(&[S::REPLIED]).aged(1))
            .sees(follows(udp))
            .expects_flow(old().state(&[S::REPLIED, S::ESTABLISHED, S::LATER_TICK])),
        row("a second packet after another tick makes a stream (SEM-123)")
            .service(service())
            .with_flow(old().state(&[S::REPLIED, S::LATER_TICK]).aged(1))
            .sees(follows(udp))
            .expects_flow(old().state(&[S::REPLIED, S::ESTABLISHED, S::LATER_TICK, S::STREAM])),
        row("a stream of datagrams ends after 120 seconds (SEM-123)")
            .service(service())
            .with_flow(old().state(STREAM).aged(121))
            .sees(begins(udp))
            .expects_flow(anew())
            .expects_flow(old().state(STREAM).aged(121).reverse_only()),
        row("a stream of datagrams lives for 120 seconds (SEM-123)")
            .service(service())
            .with_flow(old().state(STREAM).aged(119).aged_back(0))
            .sees(follows(udp))
            .expects_flow(old().state(LIVE)),
        row("answers alone keep a flow alive: one clock for both directions, as nf_conntrack (SEM-123)")
            .with_flow(old().state(LIVE).aged(100))
            .sees(pod_out("pod0", later("pod-b:8080", "pod-a:4000")).passes(later("vip:80", "pod-a:4000")))
            .expects_flow(old().state(LIVE)),
        row("a client's packets alone keep a flow alive: one clock for both directions, as nf_conntrack (SEM-123)")
            .with_flow(old().state(LIVE).aged(100))
            .sees(follows(later))
            .expects_flow(old().state(LIVE)),
        row("a connection that was never answered is replaced by a SYN after a minute")
            .service(service())
            .with_flow(old().aged(61))
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:4000", "vip:80"))
                    .passes(tcp(SYN, "pod-a:4000", "remote:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(anew())
            .expects_flow(old().aged(61).reverse_only()),
        row("a connection that was picked up in mid-flow and never answered is replaced by a SYN after five minutes (SEM-123)")
            .service(service())
            .with_flow(old().state(&[S::ESTABLISHED]).aged(301))
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:4000", "vip:80"))
                    .passes(tcp(SYN, "pod-a:4000", "remote:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(anew())
            .expects_flow(old().state(&[S::ESTABLISHED]).aged(301).reverse_only()),
        row("an established connection lives for 12 hours without a packet (SEM-123)")
            .service(service())
            .with_flow(old().state(LIVE).aged(43_200).aged_back(0))
            .sees(
                pod_in("pod0", tcp(ACK, "pod-a:4000", "vip:80"))
                    .passes(tcp(ACK, "pod-a:4000", "pod-b:8080")),
            )
            .expects_flow(old().state(LIVE)),
    ]
}

fn twins() -> Vec<Row> {
    let node_port = || {
        flow("client:5000 > node:30080", "node:snat0 > remote:8080")
            .redirected()
            .next_hop("remote")
            .state(LIVE)
    };
    vec![
        row("a lost reverse record is made again by the client's next touch")
            .with_flow(old().state(LIVE).aged(2).forward_only())
            .sees(follows(later).counts(&[FlowTwinRestored]))
            .expects_flow(old().state(LIVE)),
        row("a lost forward record is made again by the next answer")
            .with_flow(old().state(LIVE).aged(2).reverse_only())
            .sees(
                pod_out("pod0", later("pod-b:8080", "pod-a:4000"))
                    .passes(later("vip:80", "pod-a:4000"))
                    .counts(&[FlowTwinRestored]),
            )
            .expects_flow(old().state(LIVE)),
        row("a lost reverse record of a masqueraded flow is made again with its port")
            .with_flow(node_port().aged(2).forward_only())
            .sees(
                outside("up0", later("client:5000", "node:30080"))
                    .redirects(later("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowTwinRestored]),
            )
            .expects_flow(node_port()),
        row("a record whose reverse tuple belongs to another flow leaves that flow alone")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(flow("pod-a:4000 > other-vip:80", "pod-a:4000 > pod-b:8080").state(&[S::REPLIED]))
            .with_flow(old().state(&[S::ESTABLISHED, S::STREAM]).aged(2).forward_only())
            .sees(follows(later))
            .expects_flow(flow("pod-a:4000 > other-vip:80", "pod-a:4000 > pod-b:8080").state(&[S::REPLIED]))
            .expects_flow(old().state(&[S::ESTABLISHED, S::STREAM]).forward_only()),
    ]
}

fn collisions() -> Vec<Row> {
    let other = || flow("pod-a:4000 > other-vip:80", "pod-a:4000 > pod-b:8080").state(&[S::REPLIED]);
    let theirs = || {
        flow("other-client:9 > node:30080", "node:snat0 > remote:8080")
            .redirected()
            .next_hop("remote")
            .state(&[S::REPLIED])
    };
    vec![
        row("two VIPs, one client port, one backend: the second flow takes another source port (SEM-080)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(other())
            .sees(
                pod_in("pod0", first("pod-a:4000", "vip:80"))
                    .passes(first("pod-a:snat0", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .sees(pod_out("pod0", later("pod-b:8080", "pod-a:snat0")).passes(later("vip:80", "pod-a:4000")))
            .expects_flow(other())
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:snat0 > pod-b:8080").state(&[S::REPLIED])),
        row("two VIPs, one client port: the port of a connection that has just closed rests at the backend (SEM-080)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(other().tcp().state(CLOSED).aged(59))
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:4000", "vip:80"))
                    .passes(tcp(SYN, "pod-a:snat0", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(other().tcp().state(CLOSED).aged(59))
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:snat0 > pod-b:8080").tcp()),
        row("two VIPs, one client port: a minute after the first connection closed the second has the port (SEM-080)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(other().tcp().state(CLOSED).aged(60))
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:4000", "vip:80"))
                    .passes(tcp(SYN, "pod-a:4000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(other().tcp().state(CLOSED).aged(60).forward_only())
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080").tcp()),
        row("a client that dials the same VIP again from its port keeps the port (SEM-080)")
            .service(cluster_ip("vip:80", &["pod-b:8080"]))
            .with_flow(old().tcp().state(CLOSED).aged(1))
            .sees(
                pod_in("pod0", tcp(SYN, "pod-a:4000", "vip:80"))
                    .passes(tcp(SYN, "pod-a:4000", "pod-b:8080"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(flow("pod-a:4000 > vip:80", "pod-a:4000 > pod-b:8080").tcp()),
        row("a masqueraded flow tries the next port if a live flow has the first (SEM-080)")
            .service(external("any:30080", &["remote:8080"]))
            .with_flow(theirs())
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat1", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(theirs())
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat1 > remote:8080").redirected().next_hop("remote"),
            ),
        row("a port whose flow has expired is taken")
            .service(external("any:30080", &["remote:8080"]))
            .with_flow(theirs().aged(200))
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(theirs().aged(200).forward_only())
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat0 > remote:8080").redirected().next_hop("remote"),
            ),
        row("a client that lost its forward record gets the same port again")
            .service(external("any:30080", &["remote:8080"]))
            .with_flow(
                flow("client:5000 > node:30080", "node:snat0 > remote:8080")
                    .redirected()
                    .reverse_only()
                    .state(&[S::REPLIED]),
            )
            .begins_redirected(outside, "up0", "client:5000 > node:30080", "node:snat0 > remote:8080"),
        row("a client whose first 79 ports are taken by live flows gets the next one (SEM-080)")
            .service(external("any:30080", &["remote:8080"]))
            .with_flows(taken(79, &[S::REPLIED]))
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat79", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flows(taken(79, &[S::REPLIED]))
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat79 > remote:8080").redirected().next_hop("remote"),
            ),
        row("the port of a connection that has just closed rests while another is free (SEM-080)")
            .service(external("any:30080", &["remote:8080"]))
            .with_flow(theirs().tcp().state(CLOSED).aged(59))
            .sees(
                outside("up0", tcp(SYN, "client:5000", "node:30080"))
                    .redirects(tcp(SYN, "node:snat1", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(theirs().tcp().state(CLOSED).aged(59))
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat1 > remote:8080")
                    .tcp()
                    .redirected()
                    .next_hop("remote"),
            ),
        row("the port of a connection that closed a minute ago is taken (SEM-080)")
            .service(external("any:30080", &["remote:8080"]))
            .with_flow(theirs().tcp().state(CLOSED).aged(60))
            .sees(
                outside("up0", tcp(SYN, "client:5000", "node:30080"))
                    .redirects(tcp(SYN, "node:snat0", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flow(theirs().tcp().state(CLOSED).aged(60).forward_only())
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat0 > remote:8080")
                    .tcp()
                    .redirected()
                    .next_hop("remote"),
            ),
        row("if no port is free, the port that has rested longest is taken (SEM-080)")
            .service(external("any:30080", &["remote:8080"]))
            .with_flows(closed(None))
            .sees(
                outside("up0", tcp(SYN, "client:5000", "node:30080"))
                    .redirects(tcp(SYN, "node:snat7", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flows(closed(Some(7)))
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat7 > remote:8080")
                    .tcp()
                    .redirected()
                    .next_hop("remote"),
            ),
        row("if no port is free, that of an idle flow that is not assured is taken (SEM-080)")
            .service(external("any:30080", &["remote:8080"]))
            .with_flows(idle(&[S::REPLIED], None))
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat7", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flows(idle(&[S::REPLIED], Some(7)))
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat7 > remote:8080").redirected().next_hop("remote"),
            ),
        row("an assured flow keeps its port, however idle (SEM-080)")
            .service(external("any:30080", &["remote:8080"]))
            .with_flows(idle(ASSURED, None))
            .sees(
                outside("up0", first("client:5000", "node:30080"))
                    .redirects(first("node:snat65", "remote:8080").via("remote"))
                    .counts(&[FlowNew]),
            )
            .expects_flows(idle(ASSURED, None))
            .expects_flow(
                flow("client:5000 > node:30080", "node:snat65 > remote:8080").redirected().next_hop("remote"),
            ),
    ]
}

/// Another client's flow on each of the first ports that the client would try.
fn taken(count: u32, state: &'static [S]) -> impl Iterator<Item = Flow> {
    (0..count).map(move |attempt| {
        let from = format!("other-client:{} > node:30080", 9 + attempt);
        flow(from, format!("node:snat{attempt} > remote:8080")).redirected().next_hop("remote").state(state)
    })
}

const ASSURED: &[S] = &[S::REPLIED, S::ESTABLISHED];

/// A flow of this state on each of the ports that are tried before another flow's is taken. The eighth is the oldest.
fn idle(state: &'static [S], taken_over: Option<usize>) -> impl Iterator<Item = Flow> {
    let flows = taken(SNAT_TRIES_AT_REST + 1, state).enumerate();
    let rest = flows.filter(move |(attempt, _)| taken_over != Some(*attempt));
    rest.map(|(attempt, flow)| flow.aged(if attempt == 7 { 9 } else { 5 }))
}

/// A recently closed connection on each of the ports that are tried before a resting port is taken. The eighth is the
/// oldest. The flow that lost its port has only its forward record left.
fn closed(taken_over: Option<usize>) -> impl Iterator<Item = Flow> {
    taken(SNAT_TRIES_AT_REST + 1, CLOSED).enumerate().map(move |(attempt, flow)| {
        let flow = flow.tcp().aged(if attempt == 7 { 9 } else { 5 });
        if taken_over == Some(attempt) { flow.forward_only() } else { flow }
    })
}
