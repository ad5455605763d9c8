//! The flow table from outside: listing it, and expiry while the daemon lives.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use aya::Pod;
use aya::maps::MapData;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::flow::twin_key;
use svc_common::datapath::state::{STAMP_SHIFT, age, is_expired, lifetime};
use svc_common::family::{Family, V4, V6};

use super::encode::Encode;
use super::maps::{FamilyMaps, Maps};
use super::pins::Pins;
use super::sys;
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
pub fn now() -> u32 {
    let Ok(t) = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE) else { return 0 };
    let nanos = (t.tv_sec() as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec() as u64);
    (nanos >> STAMP_SHIFT) as u32
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

/// Removes what has expired; answers how many records. Reads a table that changes meanwhile: what it misses is for the
/// next sweep.
pub fn sweep(pins: &Pins) -> anyhow::Result<u64> {
    let mut maps = Maps::open(pins)?;
    let now = now();
    Ok(sweep_family(&mut maps.v4, pins, names::FLOWS4, now)?
        + sweep_family(&mut maps.v6, pins, names::FLOWS6, now)?)
}

/// Removes UDP flows to endpoints that are gone, both records of each; answers how many flows. One pass over each
/// family's table, as it is: what changes meanwhile does not fail it.
pub fn remove_stale(maps: &mut Maps, serving: &Serving, node_addrs: &BTreeMap<IpAddr, NodeAddrFlags>) -> u64 {
    let is_stale = |original, backend| is_stale(serving, node_addrs, Proto::UDP, original, backend);
    remove_family::<V4>(&mut maps.v4, is_stale) + remove_family::<V6>(&mut maps.v6, is_stale)
}

fn collect<A: Pod + Encode>(maps: &FamilyMaps<A>, now: u32, flows: &mut Vec<Flow>)
where
    FrontendKey<A>: Pod,
    BackendValue<A>: Pod,
    FlowKey<A>: Pod,
    FlowRecord<A>: Pod,
{
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

fn sweep_family<A: Pod + Encode>(
    maps: &mut FamilyMaps<A>,
    pins: &Pins,
    name: &str,
    now: u32,
) -> anyhow::Result<u64>
where
    FrontendKey<A>: Pod,
    BackendValue<A>: Pod,
    FlowKey<A>: Pod,
    FlowRecord<A>: Pod,
{
    let has_expired = |key: &FlowKey<A>, r: &FlowRecord<A>| is_expired(key.proto, r.state, now, r.stamp);
    let map = MapData::from_pin(pins.map(name))?;
    let mut expired: Vec<FlowKey<A>> = Vec::new();
    sys::each_entry(
        map.fd().as_fd(),
        (size_of::<FlowKey<A>>(), size_of::<FlowRecord<A>>()),
        |key, record| {
            let (Some(key), Some(record)) = (sys::read(key), sys::read(record)) else { return };
            if has_expired(&key, &record) {
                expired.push(key);
            }
        },
    )?;
    let mut removed = 0;
    for key in expired {
        // Evicted or refreshed meanwhile: it is not ours to remove.
        if maps.flows.get(&key, 0).is_ok_and(|r| has_expired(&key, &r)) && maps.flows.remove(&key).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

fn remove_family<F: Family>(
    maps: &mut FamilyMaps<F::Addr>,
    is_stale: impl Fn(SocketAddr, SocketAddr) -> bool,
) -> u64
where
    F::Addr: Pod + Encode,
    FrontendKey<F::Addr>: Pod,
    BackendValue<F::Addr>: Pod,
    FlowKey<F::Addr>: Pod,
    FlowRecord<F::Addr>: Pod,
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
