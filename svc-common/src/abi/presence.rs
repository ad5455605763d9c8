//! Whether the daemon runs, for hooks that stand in for its work.

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

/// Index into the table `PRESENCE`, whose entries are `u32`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// Last tick (as in a flow record's stamp) for which the daemon has said that it runs and that every hook has its
    /// program. 0: it has stopped.
    RunsUntil,
    /// 1: a socket hook has translated the socket of a pod since the table was made.
    PodSocketsUsed,
}

impl Presence {
    pub const COUNT: u32 = 2;
}

/// The daemon runs at the tick `now`, if it has said that it runs until the tick `until`. Ticks wrap around.
#[inline(always)]
pub const fn is_present(until: u32, now: u32) -> bool {
    until != 0 && now.wrapping_sub(until) as i32 <= 0
}

abi! { PodSockets = 1 }

#[cfg(test)]
mod tests {
    use super::is_present;

    #[test]
    fn the_daemon_is_present_until_its_tick_has_passed() {
        for (until, now, expected) in [
            (0, 0, false),
            (0, 7, false),
            (7, 6, true),
            (7, 7, true),
            (7, 8, false),
            (2, u32::MAX, true),
            (u32::MAX, 2, false),
        ] {
            assert_eq!(is_present(until, now), expected, "until {until}, now {now}");
        }
    }
}
