//! The daemon's lease: while it lasts, the daemon runs. Hooks that stand in for the daemon's work read it.

use super::abi;

/// Whether the socket hooks serve the sockets of pods (ClusterIPs only); a field of [`Config`](super::Config).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PodSockets(pub u8);

impl PodSockets {
    pub const OFF: Self = Self(0);
    pub const ON: Self = Self(1);
    /// Only while the daemon does not run: it alone attaches programs to the interfaces of new pods.
    pub const WITHOUT_DAEMON: Self = Self(2);
}

/// Index into the table `LEASE`, whose entries are `u32`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lease {
    /// Last tick (as in a flow record's stamp) for which the daemon has said that it runs and that every hook has its
    /// program. 0: it has stopped.
    Until,
    /// 1: a socket hook has translated the socket of a pod since the table was made.
    PodSocketsUsed,
}

impl Lease {
    pub const COUNT: u32 = 2;
}

/// A lease until the tick `until` is held at the tick `now`. Ticks wrap around.
#[inline(always)]
pub const fn is_held(until: u32, now: u32) -> bool {
    until != 0 && now.wrapping_sub(until) as i32 <= 0
}

abi! { PodSockets = 1 }

#[cfg(test)]
mod tests {
    use super::is_held;

    #[test]
    fn a_lease_is_held_until_its_tick_has_passed() {
        for (until, now, expected) in [
            (0, 0, false),
            (0, 7, false),
            (7, 6, true),
            (7, 7, true),
            (7, 8, false),
            (2, u32::MAX, true),
            (u32::MAX, 2, false),
        ] {
            assert_eq!(is_held(until, now), expected, "until {until}, now {now}");
        }
    }
}
