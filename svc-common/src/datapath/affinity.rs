//! Session affinity: expiry of an entry, and the check that its backend may still be selected.

use crate::abi::{BackendId, Extent};

/// Unit of [`crate::abi::AffinityValue::until`], as a shift of nanoseconds: 2^26 ns, a fifteenth of a second. A
/// second would be too coarse for `timeoutSeconds: 1`, and milliseconds overflow.
pub const AFFINITY_SHIFT: u32 = 26;

/// Expiry of an entry that is to live so many seconds from now: never early, less than two units late.
#[inline(always)]
pub const fn expires_at(now: u32, seconds: u32) -> u32 {
    let units = (seconds as u64 * 1_000_000_000) >> AFFINITY_SHIFT;
    now.wrapping_add(units as u32).wrapping_add(2)
}

/// The entry has expired, so the client may get another backend.
#[inline(always)]
pub const fn is_over(now: u32, until: u32) -> bool {
    until.wrapping_sub(now).wrapping_sub(1) > u32::MAX / 2
}

/// Binary search for a backend in an extent, whose ids ascend. It ends after at most
/// [`crate::abi::limits::EXTENT_HALVINGS`] steps.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The part still to search: it contains the last place whose id is not larger than `backend`.
    left: Extent,
    backend: BackendId,
}

impl Search {
    #[inline(always)]
    pub const fn new(extent: &Extent, backend: BackendId) -> Self {
        Self { left: *extent, backend }
    }

    /// Halves the part still to search; `at` returns the id at a place. False: it cannot be halved any more.
    #[inline(always)]
    pub fn halve(&mut self, at: impl Fn(u32) -> Option<u32>) -> bool {
        let half = self.left.count / 2;
        let middle = self.left.first.wrapping_add(half);
        if half != 0 && at(middle).is_some_and(|id| id <= self.backend.0) {
            self.left.first = middle;
        }
        self.left.count -= half;
        half != 0
    }

    /// The extent holds the backend. Valid after the last halving.
    #[inline(always)]
    pub fn is_found(&self, at: impl Fn(u32) -> Option<u32>) -> bool {
        self.left.count == 1 && at(self.left.first) == Some(self.backend.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::limits;

    fn contains(extent: Extent, id: u32, at: impl Fn(u32) -> Option<u32>) -> bool {
        let mut search = Search::new(&extent, BackendId(id));
        let _ended = (0..limits::EXTENT_HALVINGS).any(|_| !search.halve(&at));
        search.is_found(at)
    }

    /// The search finds `id` in an extent of `ids` that lies behind other extents in the table.
    fn holds(ids: &[u32], id: u32) -> bool {
        let table: Vec<u32> = [id, id, id].into_iter().chain(ids.iter().copied()).chain([id]).collect();
        let extent = Extent { first: 3, count: ids.len() as u32 };
        contains(extent, id, |place| table.get(place as usize).copied())
    }

    #[test]
    fn an_extent_holds_its_own_ids_and_no_others() {
        for len in 0..40 {
            let ids: Vec<u32> = (0..len).map(|n| 10 + 3 * n).collect();
            for id in 0..140 {
                assert_eq!(holds(&ids, id), ids.contains(&id), "{id} of {len}");
            }
        }
    }

    #[test]
    fn the_largest_extent_is_searched_to_the_end() {
        let ids: Vec<u32> = (1..limits::BACKENDS).collect();
        assert!(ids.iter().step_by(97).chain(ids.last()).all(|id| holds(&ids, *id)));
        assert!(!holds(&ids, 0) && !holds(&ids, limits::BACKENDS));
    }

    #[test]
    fn an_extent_beyond_the_table_holds_nothing() {
        assert!(!contains(Extent { first: 5, count: 9 }, 1, |_| None));
    }

    #[test]
    fn session_affinity_lasts_its_seconds_and_less_than_two_units_more() {
        let moment = |ns: u64| (ns >> AFFINITY_SHIFT) as u32;
        for seconds in [1, 2, 10_800, 86_400] {
            for start in [0, 1, 40_000_000, (1_u64 << 58) - 1] {
                let until = expires_at(moment(start), seconds);
                let after = |ns: u64| is_over(moment(start + u64::from(seconds) * 1_000_000_000 + ns), until);
                assert!(!after(0), "{seconds} s from {start}");
                assert!(after(2 << AFFINITY_SHIFT), "{seconds} s from {start}");
            }
        }
    }

    #[test]
    fn session_affinity_from_a_clock_that_is_ahead_has_not_expired() {
        assert!(!is_over(7, expires_at(9, 1)));
        assert!(!is_over(u32::MAX, expires_at(u32::MAX, 86_400)));
        assert!(is_over(5, 5) && !is_over(5, 6));
    }
}
