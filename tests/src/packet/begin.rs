//! The usual end of rows: a flow begins, and its first packet and its records are compared.

use svc_common::abi::{Counter, Hook};

use super::flow::flow;
use super::row::{Row, Step};
use super::wire::{Packet, first};

/// The hook of a packet at an interface: `pod_in`, `up_in`, `outside`.
type StepAt = fn(&'static str, Packet) -> Step;

impl Row {
    /// The first packet of `from` ("client:5000 > vip:80") leaves as `to` ("node:snat0 > remote:8080") past the
    /// stack, through the link of the backend's host.
    pub fn begins_redirected(
        self,
        met: StepAt,
        interface: &'static str,
        from: &'static str,
        to: &'static str,
    ) -> Self {
        let (host, _) = ends(to).1.split_once(':').expect("host:port");
        self.sees(met(interface, packet(from)).redirects(packet(to).via(host)).counts(&[Counter::FlowNew]))
            .expects_flow(flow(from, to).redirected().next_hop(host))
    }

    /// The first packet of `from` goes into the stack as `to`; replies are translated at that hook.
    pub fn begins_in_the_stack(
        self,
        met: StepAt,
        interface: &'static str,
        from: &'static str,
        to: &'static str,
        reversed_at: Hook,
    ) -> Self {
        self.sees(met(interface, packet(from)).passes(packet(to)).counts(&[Counter::FlowNew]))
            .expects_flow(flow(from, to).reversed_at(reversed_at))
    }
}

fn packet(flow: &'static str) -> Packet {
    let (from, to) = ends(flow);
    first(from, to)
}

fn ends(flow: &'static str) -> (&'static str, &'static str) {
    flow.split_once(" > ").expect("from > to")
}
