//! The flow table from outside: listing it, and expiry while the daemon lives.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6, Proto};
use svc_common::datapath::flow::twin_key;
use svc_common::datapath::state::{STAMP_SHIFT, age, is_expired, lifetime};
use svc_common::family::{Family, V4, V6};

use super::clock::coarse_ns;
use super::encode::Encode;
use super::entries::remove_where;
use super::maps::{FamilyMaps, Maps};
use super::pins::Pins;
use crate::plan::serving::{Serving, is_stale};

/// One record, in words.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Flow {
    pub direction: &'static str,
    pub proto: u8,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub becomes_from: SocketAddr,
    pub becomes_to: SocketAddr,
    pub hook: &'static str,
    pub way: &'static str,
    pub state: String,
    /// Ticks (a little more than a second each) since the last packet, as coarse as the stamp.
    pub age: u32,
    /// Ticks without a packet after which it counts as absent.
    pub lifetime: u32,
    pub service: u32,
}

/// The present in a record's ticks.
fn now() -> u32 {
    (coarse_ns() >> STAMP_SHIFT) as u32
}

/// Every record of both families, sorted.
pub fn list(maps: &Maps) -> Vec<Flow> {
    let now = now();
    let mut flows = Vec::new();
    collect(&maps.v4, now, &mut flows);
    collect(&maps.v6, now, &mut flows);
    flows.sort();
    flows
}

/// Removes what has expired; answers how many records.
pub fn sweep(pins: &Pins) -> anyhow::Result<u64> {
    let now = now();
    Ok(sweep_family::<AddrV4>(pins, names::FLOWS4, now)? + sweep_family::<AddrV6>(pins, names::FLOWS6, now)?)
}

/// Removes UDP flows to endpoints that are gone, both records of each; answers how many flows. One pass over each
/// family's table, as it is: what changes meanwhile does not fail it.
pub fn remove_stale(maps: &mut Maps, serving: &Serving, addresses: &BTreeMap<IpAddr, AddressFlags>) -> u64 {
    let is_stale = |original, backend| is_stale(serving, addresses, Proto::UDP, original, backend);
    remove_family::<V4>(&mut maps.v4, is_stale) + remove_family::<V6>(&mut maps.v6, is_stale)
}

fn collect<A: Encode>(maps: &FamilyMaps<A>, now: u32, flows: &mut Vec<Flow>) {
    for (key, record) in maps.flows.iter().flatten() {
        let socket = |addr: A, port: svc_common::addr::Port| -> SocketAddr {
            let ip: IpAddr = addr.to_ip();
            (ip, port.number()).into()
        };
        flows.push(Flow {
            direction: if record.direction == Direction::FORWARD { "forward" } else { "reverse" },
            proto: key.proto.0,
            from: socket(key.src, key.sport),
            to: socket(key.dst, key.dport),
            becomes_from: socket(record.src, record.sport),
            becomes_to: socket(record.dst, record.dport),
            hook: hook_name(record.hook),
            way: way_name(record.way),
            state: state_name(record.state),
            age: age(now, record.stamp),
            lifetime: lifetime(key.proto, record.state),
            service: record.service.0,
        });
    }
}

fn sweep_family<A: MapAddr>(pins: &Pins, name: &str, now: u32) -> anyhow::Result<u64> {
    remove_where(pins, name, |key: &FlowKey<A>, r: &FlowRecord<A>| {
        is_expired(key.proto, r.state, now, r.stamp)
    })
}

fn remove_family<F: Family>(
    maps: &mut FamilyMaps<F::Addr>,
    is_stale: impl Fn(SocketAddr, SocketAddr) -> bool,
) -> u64
where
    F::Addr: Encode,
{
    let socket = |addr: F::Addr, port: svc_common::addr::Port| (addr.to_ip(), port.number()).into();
    let mut stale = Vec::new();
    for (key, record) in maps.flows.iter().flatten() {
        let is_forward = key.proto == Proto::UDP && record.direction == Direction::FORWARD;
        if is_forward && is_stale(socket(key.dst, key.dport), socket(record.dst, record.dport)) {
            stale.push((key, twin_key::<F>(key.proto, &record)));
        }
    }
    let mut removed = 0;
    for (key, twin) in stale {
        // The backend's answers to another flow may have come to the same key.
        let is_ours =
            |r: FlowRecord<F::Addr>| r.direction == Direction::REVERSE && twin_key::<F>(key.proto, &r) == key;
        // The forward record last: a reverse one that is left alone would make it again.
        if maps.flows.get(&twin, 0).is_ok_and(is_ours) {
            let _ = maps.flows.remove(&twin);
        }
        removed += u64::from(maps.flows.remove(&key).is_ok());
    }
    removed
}

fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::INGRESS => "ingress",
        Hook::POD_EGRESS => "pod-egress",
        Hook::UPLINK_EGRESS => "uplink-egress",
        _ => "unknown",
    }
}

fn way_name(way: Way) -> &'static str {
    match way {
        Way::STACK => "stack",
        Way::REDIRECT => "redirect",
        Way::BACK => "back",
        _ => "unknown",
    }
}

fn state_name(state: FlowState) -> String {
    let names = [
        (FlowState::REPLIED, "replied"),
        (FlowState::ESTABLISHED, "established"),
        (FlowState::FIN_FORWARD, "client-fin"),
        (FlowState::FIN_REVERSE, "backend-fin"),
        (FlowState::RESET, "reset"),
    ];
    let seen: Vec<&str> = names.iter().filter(|(bit, _)| state.has(*bit)).map(|(_, name)| *name).collect();
    if seen.is_empty() { "new".to_owned() } else { seen.join(",") }
}
