//! A CPU's budget of new flows, by the generic cell rate algorithm (ITU-T I.371): one number, the time at which all flows so
//! far would have begun if they had kept the interval.

use crate::abi::limits::NEW_FLOW_BURST;

/// A flow may begin at `now`. `spent` is the budget's number; both are nanoseconds of one clock.
#[inline(always)]
pub const fn has_budget(spent: u64, now: u64) -> bool {
    spent <= now + NEW_FLOW_BURST
}

/// The budget's number after a flow that begins at `now`.
#[inline(always)]
pub const fn spend(spent: u64, now: u64, interval: u32) -> u64 {
    let from = if spent > now { spent } else { now };
    from + interval as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flows that begin within these nanoseconds, with a packet every `gap`.
    fn begun(interval: u32, gap: u64, time: u64) -> u64 {
        let start = 1 << 50;
        let (mut spent, mut begun) = (0, 0);
        for now in (start..start + time).step_by(gap as usize) {
            if has_budget(spent, now) {
                spent = spend(spent, now, interval);
                begun += 1;
            }
        }
        begun
    }

    #[test]
    fn a_flood_gets_the_limit_and_a_burst() {
        const SECOND: u64 = 1_000_000_000;
        for limit in [1_000, 10_000, 200_000] {
            let interval = (SECOND / limit) as u32;
            let burst = NEW_FLOW_BURST / u64::from(interval);
            let got = begun(interval, 2_000, 2 * SECOND);
            assert!((2 * limit..=2 * limit + burst + 2).contains(&got), "{got} of {limit} a second");
        }
        // One flow a second, although the burst is shorter than its interval.
        assert!((10..=11).contains(&begun(1_000_000_000, 1_000_000, 10 * SECOND)));
    }

    #[test]
    fn below_the_limit_every_flow_begins() {
        assert_eq!(begun(5_000, 5_000, 1_000_000_000), 200_000);
    }
}
