//! The clock of Leases and claims.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::claim::Millis;

/// Milliseconds since the boot, also while the machine was suspended: another node's Lease runs out meanwhile, and so does this node's.
pub fn now() -> Millis {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    now.ok().and_then(|now| u64::try_from(now.as_millis()).ok()).unwrap_or(u64::MAX)
}
