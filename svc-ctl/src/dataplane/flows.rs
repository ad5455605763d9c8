//! Lists the flow tables for people.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6, Proto};
use svc_common::datapath::state::{STAMP_SHIFT, age, lifetime};

use super::clock::coarse_ns;
use super::encode::Encode;
use super::entries::each;
use super::pins::Pins;

/// One flow record as text.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Flow {
    pub direction: &'static str,
    pub proto: u8,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub becomes_from: SocketAddr,
    pub becomes_to: SocketAddr,
    pub hook: &'static str,
    pub exit: &'static str,
    pub state: String,
    /// Ticks (a little more than a second each) since the last packet, in the stamp's resolution.
    pub age: u32,
    /// Ticks without a packet after which the record expires.
    pub lifetime: u32,
    pub service: u32,
}

/// Now, in a record's ticks.
pub(crate) fn now() -> u32 {
    (coarse_ns() >> STAMP_SHIFT) as u32
}

/// Whole seconds of so many of a record's ticks.
pub(crate) const fn seconds(ticks: u32) -> u64 {
    ((ticks as u64) << STAMP_SHIFT) / 1_000_000_000
}

/// Every record of both families, sorted.
pub fn list(pins: &Pins) -> anyhow::Result<Vec<Flow>> {
    let now = now();
    let mut flows = Vec::new();
    for name in [names::FLOWS4, names::UNASSURED4] {
        collect::<AddrV4>(pins, name, now, &mut flows)?;
    }
    for name in [names::FLOWS6, names::UNASSURED6] {
        collect::<AddrV6>(pins, name, now, &mut flows)?;
    }
    flows.sort();
    Ok(flows)
}

fn collect<A: Encode>(pins: &Pins, name: &str, now: u32, flows: &mut Vec<Flow>) -> anyhow::Result<()> {
    each(pins, name, |key: FlowKey<A>, record: FlowRecord<A>| flows.push(flow(&key, &record, now)))?;
    Ok(())
}

/// A record as text.
pub fn flow<A: Encode>(key: &FlowKey<A>, record: &FlowRecord<A>, now: u32) -> Flow {
    let socket = |addr: A, port: svc_common::addr::Port| -> SocketAddr {
        let ip: IpAddr = addr.to_ip();
        (ip, port.number()).into()
    };
    Flow {
        direction: if record.direction == Direction::FORWARD { "forward" } else { "reverse" },
        proto: key.proto.0,
        from: socket(key.src, key.sport),
        to: socket(key.dst, key.dport),
        becomes_from: socket(record.src, record.sport),
        becomes_to: socket(record.dst, record.dport),
        hook: hook_name(record.hook),
        exit: exit_name(record.exit),
        state: state_name(key.proto, record.state),
        age: age(now, record.stamp),
        lifetime: lifetime(key.proto, record.state),
        service: record.service.0,
    }
}

fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::INGRESS => "ingress",
        Hook::POD_EGRESS => "pod-egress",
        Hook::UPLINK_EGRESS => "uplink-egress",
        _ => "unknown",
    }
}

fn exit_name(exit: Exit) -> &'static str {
    match exit {
        Exit::STACK => "stack",
        Exit::STACK_BY_SOURCE => "stack, reply by source",
        Exit::REDIRECT => "redirect",
        Exit::HAIRPIN => "back",
        _ => "unknown",
    }
}

fn state_name(proto: Proto, state: FlowState) -> String {
    let reset = if state.is_reset(proto) { "reset" } else { "ignored-reset" };
    let names = [
        (FlowState::REPLIED, "replied"),
        (FlowState::ESTABLISHED, "established"),
        (FlowState::FIN_FORWARD, "client-fin"),
        (FlowState::FIN_REVERSE, "backend-fin"),
        (FlowState::RESET, reset),
    ];
    let seen: Vec<&str> = names.iter().filter(|(bit, _)| state.has(*bit)).map(|(_, name)| *name).collect();
    if seen.is_empty() { "new".to_owned() } else { seen.join(",") }
}
