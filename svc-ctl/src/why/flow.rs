//! The tuple of a packet, and the record of its flow.

use std::net::SocketAddr;

use anyhow::Context as _;
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::state::is_expired;

use super::explanation::Explanation;
use super::request::Request;
use super::{AskWanted, found};
use crate::dataplane::dry_run::Net;
use crate::dataplane::encode::Encode;
use crate::dataplane::flows::{self, Flow};

/// The tuple of a packet from this client.
pub fn key<F: Net>(client: SocketAddr, request: &Request) -> anyhow::Result<FlowKey<F::Addr>> {
    let addr = |ip| F::addr(ip).context("addresses of different families");
    Ok(FlowKey {
        src: addr(client.ip())?,
        dst: addr(request.to.ip())?,
        sport: Port::new(client.port()),
        dport: Port::new(request.to.port()),
        proto: request.proto,
        _pad: [0; 3],
    })
}

/// A new packet of this tuple begins another flow.
pub fn can_be_reused<A>(key: &FlowKey<A>, record: &FlowRecord<A>) -> bool {
    let is_over = is_expired(key.proto, record.state, flows::now(), record.stamp);
    match (record.hook, key.proto) {
        (Hook::INGRESS, Proto::TCP) => is_over || record.state.is_closing(key.proto),
        // At egress a record of TCP counts until the daemon removes it.
        (_, Proto::TCP) => false,
        _ => is_over,
    }
}

/// Adds the step of the flow's record.
pub fn record_step<A: Encode>(
    explanation: &mut Explanation,
    ask: AskWanted<'_>,
    key: &FlowKey<A>,
    record: &FlowRecord<A>,
) {
    let Flow { direction, state, age, lifetime, becomes_from, becomes_to, hook, .. } =
        flows::flow(key, record, flows::now());
    let text = format!(
        "a {direction} record ({state}; last packet {} s ago, expires {} s after it): {becomes_from} > {becomes_to} at {hook}",
        flows::seconds(age),
        flows::seconds(lifetime)
    );
    explanation.step("flow", &["SEM-079", "SEM-120"], text);
    explanation.service = Some(found::service_name(ask(record.service.0).as_ref(), record.service));
}
