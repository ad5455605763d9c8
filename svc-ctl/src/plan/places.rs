//! Where runs lie in an array: first fit over a list of free runs; freed places come back after their grace.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use svc_common::abi::Extent;

use super::time::PlanTime;

#[derive(Clone, Debug)]
pub struct Places {
    size: u32,
    /// Free runs by their first place; neighbors are merged.
    free: BTreeMap<u32, u32>,
    /// The same by length, then first place.
    by_length: BTreeSet<(u32, u32)>,
    free_count: u32,
    retired: Vec<Extent>,
    waiting: VecDeque<(PlanTime, Extent)>,
}

impl Places {
    pub fn new(size: u32) -> Self {
        let mut places = Self {
            size,
            free: BTreeMap::new(),
            by_length: BTreeSet::new(),
            free_count: 0,
            retired: Vec::new(),
            waiting: VecDeque::new(),
        };
        places.insert(0, size);
        places
    }

    /// The array has become larger.
    pub fn grow(&mut self, size: u32) {
        if let Some(more) = size.checked_sub(self.size).filter(|more| *more > 0) {
            self.give_back(Extent { first: self.size, count: more });
            self.size = size;
        }
    }

    /// Places that are taken, or free again but not yet to be used.
    pub const fn used(&self) -> u32 {
        self.size - self.free_count
    }

    /// Takes exactly this run; refuses it if a part of it is taken or outside.
    pub fn take_at(&mut self, extent: Extent) -> bool {
        let Some((&first, &len)) = self.free.range(..=extent.first).next_back() else { return false };
        let (end, wanted) =
            (u64::from(first) + u64::from(len), u64::from(extent.first) + u64::from(extent.count));
        if wanted > end {
            return false;
        }
        self.remove(first, len);
        self.insert(first, extent.first - first);
        self.insert(extent.first + extent.count, (end - wanted) as u32);
        true
    }

    pub fn take(&mut self, count: u32, now: PlanTime) -> Option<Extent> {
        while let Some(&(usable, extent)) = self.waiting.front() {
            if now < usable {
                break;
            }
            self.waiting.pop_front();
            self.give_back(extent);
        }
        let &(_, first) = self.by_length.range((count, 0)..).next()?;
        let extent = Extent { first, count };
        self.take_at(extent).then_some(extent)
    }

    /// Frees a run that the kernel never got.
    pub fn untake(&mut self, extent: Extent) {
        self.give_back(extent);
    }

    pub fn retire(&mut self, extent: Extent) {
        self.retired.push(extent);
    }

    /// The kernel no longer names the retired runs.
    pub fn release(&mut self, now: PlanTime) {
        self.waiting.extend(self.retired.drain(..).map(|e| (now.after_grace(), e)));
    }

    /// When the next run becomes usable whose grace is not over now.
    pub fn next_usable(&self, now: PlanTime) -> Option<PlanTime> {
        self.waiting.iter().map(|(usable, _)| *usable).find(|usable| *usable > now)
    }

    fn give_back(&mut self, extent: Extent) {
        let (mut first, mut len) = (extent.first, extent.count);
        if let Some((&before, &before_len)) = self.free.range(..first).next_back()
            && before + before_len == first
        {
            self.remove(before, before_len);
            (first, len) = (before, before_len + len);
        }
        if let Some(&after_len) = self.free.get(&(first + len)) {
            self.remove(first + len, after_len);
            len += after_len;
        }
        self.insert(first, len);
    }

    fn insert(&mut self, first: u32, len: u32) {
        if len > 0 {
            self.free.insert(first, len);
            self.by_length.insert((len, first));
            self.free_count += len;
        }
    }

    fn remove(&mut self, first: u32, len: u32) {
        self.free.remove(&first);
        self.by_length.remove(&(len, first));
        self.free_count -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::time::GRACE_MILLIS;

    #[test]
    fn runs_are_merged_when_they_come_back() {
        let mut places = Places::new(10);
        let runs: Vec<Extent> = (0..5).map(|_| places.take(2, PlanTime(0)).unwrap()).collect();
        assert_eq!(places.take(1, PlanTime(0)), None);
        for run in [runs[1], runs[3], runs[2]] {
            places.retire(run);
        }
        assert_eq!(places.take(1, PlanTime(99)), None);
        places.release(PlanTime(99));
        assert_eq!((places.take(1, PlanTime(99)), places.used()), (None, 10));
        assert_eq!(places.take(6, PlanTime(99 + GRACE_MILLIS)), Some(Extent { first: 2, count: 6 }));
        places.grow(16);
        assert_eq!(places.take(6, PlanTime(0)), Some(Extent { first: 10, count: 6 }));
    }

    #[test]
    fn a_run_is_taken_once_and_the_tightest_gap_first() {
        let mut places = Places::new(10);
        assert!(places.take_at(Extent { first: 4, count: 4 }));
        assert!(!places.take_at(Extent { first: 6, count: 1 }));
        assert!(!places.take_at(Extent { first: 8, count: 3 }));
        assert!(!places.take_at(Extent { first: u32::MAX, count: u32::MAX }));
        assert_eq!(places.take(2, PlanTime(0)), Some(Extent { first: 8, count: 2 }));
        assert_eq!(places.take(4, PlanTime(0)), Some(Extent { first: 0, count: 4 }));
        assert_eq!(places.used(), 10);
    }
}
