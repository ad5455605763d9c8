//! The affinity tables from outside: listing them, and removing what no client may come back to.

use serde::Serialize;
use svc_common::abi::{AffinityKey, AffinityValue, BackendId, ServiceId, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::datapath::affinity::{MOMENT_SHIFT, is_over};

use super::clock::coarse_ns;
use super::encode::Encode;
use super::entries::{each, remove_where};
use super::pins::Pins;
use crate::plan::stays::{Stays, may_stay};

/// A client that stays with a backend.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Stay {
    pub service: u32,
    /// Its address, or `netns COOKIE` of a socket that was translated before it had one.
    pub client: String,
    pub backend: u32,
    /// Until it may get another one.
    pub seconds_left: u32,
}

fn now() -> u32 {
    (coarse_ns() >> MOMENT_SHIFT) as u32
}

/// Every stay that is not over, of both families, sorted.
pub fn list(pins: &Pins) -> anyhow::Result<Vec<Stay>> {
    let now = now();
    let mut stays = Vec::new();
    list_family::<AddrV4>(pins, names::AFFINITY4, now, &mut stays)?;
    list_family::<AddrV6>(pins, names::AFFINITY6, now, &mut stays)?;
    stays.sort();
    Ok(stays)
}

/// Removes what is over; answers how many entries.
pub fn sweep(pins: &Pins) -> anyhow::Result<u64> {
    let now = now();
    remove(pins, |_, value| is_over(now, value.until))
}

/// Removes the stays of backends that are no endpoints of their service any more, and all of services without
/// affinity; answers how many.
pub fn remove_stale(pins: &Pins, stays: &Stays) -> anyhow::Result<u64> {
    remove(pins, |service, value| !may_stay(stays, service, value.backend))
}

fn remove(pins: &Pins, is_gone: impl Fn(ServiceId, &AffinityValue) -> bool) -> anyhow::Result<u64> {
    let v4 = |key: &AffinityKey<AddrV4>, value: &AffinityValue| is_gone(key.service, value);
    let v6 = |key: &AffinityKey<AddrV6>, value: &AffinityValue| is_gone(key.service, value);
    Ok(remove_where(pins, names::AFFINITY4, v4)? + remove_where(pins, names::AFFINITY6, v6)?)
}

fn list_family<A: Encode>(pins: &Pins, name: &str, now: u32, stays: &mut Vec<Stay>) -> anyhow::Result<()> {
    each(pins, name, |key: AffinityKey<A>, value: AffinityValue| {
        if is_over(now, value.until) {
            return;
        }
        let [low, high] = key.netns;
        let client = match u64::from(high) << 32 | u64::from(low) {
            0 => key.addr.to_ip().to_string(),
            cookie => format!("netns {cookie}"),
        };
        let BackendId(backend) = value.backend;
        let moments = u64::from(value.until.wrapping_sub(now));
        let seconds_left = ((moments << MOMENT_SHIFT) / 1_000_000_000) as u32;
        stays.push(Stay { service: key.service.0, client, backend, seconds_left });
    })
}
