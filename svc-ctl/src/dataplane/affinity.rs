//! Lists the session affinity tables for people.

use serde::Serialize;
use svc_common::abi::{AffinityKey, AffinityValue, BackendId, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::datapath::affinity::{AFFINITY_SHIFT, is_over};

use super::clock::coarse_ns;
use super::encode::Encode;
use super::entries::each;
use super::pins::Pins;

/// A session affinity entry.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AffinityEntry {
    pub service: u32,
    /// The client's address, or `netns COOKIE` for a socket that was translated before it had one.
    pub client: String,
    pub backend: u32,
    /// Until the entry expires.
    pub seconds_left: u32,
}

/// Now, in the unit of an entry's expiry.
pub(crate) fn now() -> u32 {
    (coarse_ns() >> AFFINITY_SHIFT) as u32
}

/// Whole seconds until an expiry.
pub(crate) fn seconds_left(now: u32, until: u32) -> u32 {
    let units = u64::from(until.wrapping_sub(now));
    ((units << AFFINITY_SHIFT) / 1_000_000_000) as u32
}

/// Every unexpired session affinity entry of both families, sorted.
pub fn list(pins: &Pins) -> anyhow::Result<Vec<AffinityEntry>> {
    let now = now();
    let mut entries = Vec::new();
    list_family::<AddrV4>(pins, names::AFFINITY4, now, &mut entries)?;
    list_family::<AddrV6>(pins, names::AFFINITY6, now, &mut entries)?;
    entries.sort();
    Ok(entries)
}

fn list_family<A: Encode>(
    pins: &Pins,
    name: &str,
    now: u32,
    entries: &mut Vec<AffinityEntry>,
) -> anyhow::Result<()> {
    each(pins, name, |key: AffinityKey<A>, value: AffinityValue| {
        if is_over(now, value.until) || key.is_of_socket() {
            return;
        }
        let [low, high] = key.netns;
        let client = match u64::from(high) << 32 | u64::from(low) {
            0 => key.addr.to_ip().to_string(),
            cookie => format!("netns {cookie}"),
        };
        let BackendId(backend) = value.backend;
        let seconds_left = seconds_left(now, value.until);
        entries.push(AffinityEntry { service: key.service.0, client, backend, seconds_left });
    })?;
    Ok(())
}
