//! The daemon's lease: while it lasts, the daemon runs. Hooks that take over work of a stopped daemon read it.

use super::abi;

/// Whether the socket hooks serve the sockets of pods (ClusterIPs only); a field of [`Config`](super::Config).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PodSockets(pub u8);

impl PodSockets {
    pub const OFF: Self = Self(0);
    pub const ON: Self = Self(1);
    /// Only of pods that are made while the daemon does not run, because only the daemon attaches programs to their
    /// interfaces. Such a pod has not dialled while the daemon ran.
    pub const WITHOUT_DAEMON: Self = Self(2);
}

/// Index into the table `LEASE`, whose entries are `u32`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lease {
    /// Last tick (as in a flow record's stamp) for which the daemon has confirmed that it runs and that every hook has
    /// its program. 0: it has stopped.
    Until,
    /// 1: a socket hook has translated the socket of a pod since the table was made.
    PodSocketsUsed,
    /// The tick of the daemon's last confirmation.
    Renewed,
}

impl Lease {
    pub const COUNT: u32 = 3;
}

/// A lease until the tick `until` is held at the tick `now`. Ticks wrap around.
#[inline(always)]
pub const fn is_held(until: u32, now: u32) -> bool {
    until != 0 && now.wrapping_sub(until) as i32 <= 0
}

/// A pod that dialled first at the tick `first` has programs at its interface if the daemon confirmed later, at the
/// tick `renewed`, that every hook has its program. Ticks wrap around.
#[inline(always)]
pub const fn has_programs(first: u32, renewed: u32) -> bool {
    (first.wrapping_sub(renewed) as i32) < 0
}

abi! { PodSockets = 1 }

#[cfg(test)]
mod tests {
    use super::{has_programs, is_held};

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

    #[test]
    fn a_pod_that_dials_after_the_last_renewal_may_have_no_programs() {
        for (first, renewed, expected) in
            [(6, 7, true), (7, 7, false), (8, 7, false), (u32::MAX, 2, true), (2, u32::MAX, false)]
        {
            assert_eq!(has_programs(first, renewed), expected, "first {first}, renewed {renewed}");
        }
    }
}
