//! Numbers handed out one by one: never-used ones first, then the one that has been free longest, and that only after
//! its grace.

use std::collections::{BTreeSet, VecDeque};

use super::time::PlanTime;

#[derive(Clone, Debug)]
pub struct Numbers {
    next: u32,
    /// One more than the largest number.
    limit: u32,
    /// No longer desired; the kernel may still hold it.
    retired: Vec<u32>,
    /// Gone from the kernel, with the end of the grace.
    free: VecDeque<(PlanTime, u32)>,
}

impl Numbers {
    /// Numbers from 1 to `limit - 1`, of which some are taken; zero means "none" wherever a number is shown.
    pub fn new(limit: u32, taken: &BTreeSet<u32>) -> Self {
        let next = taken.last().map_or(1, |&last| last.saturating_add(1));
        let holes = (1..next).filter(|n| !taken.contains(n));
        let free = holes.map(|n| (PlanTime::default(), n)).collect();
        Self { next, limit, retired: Vec::new(), free }
    }

    /// The table has become larger.
    pub const fn grow(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Numbers that are taken, or free again but not yet to be used.
    pub fn used(&self) -> usize {
        (self.next as usize - 1).saturating_sub(self.free.len())
    }

    pub fn take(&mut self, now: PlanTime) -> Option<u32> {
        if self.next < self.limit {
            self.next += 1;
            return Some(self.next - 1);
        }
        let &(usable, number) = self.free.front()?;
        if now < usable || number >= self.limit {
            return None;
        }
        self.free.pop_front();
        Some(number)
    }

    /// Frees a number that the kernel never got. It is the next one to be taken.
    pub fn untake(&mut self, number: u32) {
        if number.checked_add(1) == Some(self.next) {
            self.next = number;
        } else {
            self.free.push_front((PlanTime::default(), number));
        }
    }

    pub fn retire(&mut self, number: u32) {
        self.retired.push(number);
    }

    /// The kernel no longer holds the retired numbers.
    pub fn release(&mut self, now: PlanTime) {
        self.free.extend(self.retired.drain(..).map(|n| (now.after_grace(), n)));
    }

    /// When the next number becomes usable whose grace is not over now.
    pub fn next_usable(&self, now: PlanTime) -> Option<PlanTime> {
        self.free.iter().map(|(usable, _)| *usable).find(|usable| *usable > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::time::GRACE_MILLIS;

    #[test]
    fn a_number_comes_back_only_after_release_and_grace() {
        let mut numbers = Numbers::new(3, &BTreeSet::new());
        let now = PlanTime(0);
        assert_eq!((numbers.take(now), numbers.take(now), numbers.take(now)), (Some(1), Some(2), None));
        numbers.retire(1);
        assert_eq!(numbers.take(PlanTime(1_000)), None);
        numbers.release(PlanTime(10));
        assert_eq!(numbers.next_usable(PlanTime(10)), Some(PlanTime(10 + GRACE_MILLIS)));
        assert_eq!(numbers.take(PlanTime(10 + GRACE_MILLIS - 1)), None);
        assert_eq!(numbers.take(PlanTime(10 + GRACE_MILLIS)), Some(1));
    }

    #[test]
    fn taken_numbers_are_not_handed_out_again_and_holes_come_last() {
        let mut numbers = Numbers::new(5, &BTreeSet::from([1, 3]));
        let now = PlanTime(GRACE_MILLIS);
        assert_eq!((numbers.take(now), numbers.take(now), numbers.take(now)), (Some(4), Some(2), None));
        assert_eq!(numbers.used(), 4);
        numbers.grow(6);
        assert_eq!(numbers.take(now), Some(5));
    }
}
