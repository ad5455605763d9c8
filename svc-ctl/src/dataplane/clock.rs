//! The clock of the programs' stamps.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the coarse monotonic clock.
pub fn coarse_ns() -> u64 {
    let Ok(t) = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE) else { return 0 };
    (t.tv_sec() as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec() as u64)
}
