//! The flow table from outside: listing it, and expiry while the daemon lives.

use std::net::{IpAddr, SocketAddr};

use aya::Pod;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use svc_common::abi::*;
use svc_common::datapath::state::{STAMP_SHIFT, age, is_expired, lifetime};

use super::encode::Encode;
use super::maps::{FamilyMaps, Maps};

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

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Swept {
    pub seen: u64,
    pub expired: u64,
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

/// Removes what has expired. Reads a table that changes meanwhile: what it misses is for the next sweep.
pub fn sweep(maps: &mut Maps) -> Swept {
    let now = now();
    let mut swept = Swept::default();
    sweep_family(&mut maps.v4, now, &mut swept);
    sweep_family(&mut maps.v6, now, &mut swept);
    swept
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

fn sweep_family<A: Pod + Encode>(maps: &mut FamilyMaps<A>, now: u32, swept: &mut Swept)
where
    FrontendKey<A>: Pod,
    BackendValue<A>: Pod,
    FlowKey<A>: Pod,
    FlowRecord<A>: Pod,
{
    let mut expired = Vec::new();
    for (key, record) in maps.flows.iter().flatten() {
        swept.seen += 1;
        if is_expired(key.proto, record.state, now, record.stamp) {
            expired.push(key);
        }
    }
    for key in expired {
        // Evicted or refreshed meanwhile: the next packet makes what it needs again.
        if maps.flows.remove(&key).is_ok() {
            swept.expired += 1;
        }
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
