//! Where extents lie in the selection table: first fit over a list of free runs, freed places after their grace.

use std::collections::{BTreeMap, VecDeque};

use svc_common::abi::Extent;

use super::tick::{GRACE_TICKS, Tick};

#[derive(Clone, Debug)]
pub struct Places {
    /// Free runs by their first place; neighbours are merged.
    free: BTreeMap<u32, u32>,
    retired: Vec<Extent>,
    waiting: VecDeque<(Tick, Extent)>,
}

impl Places {
    pub fn new(size: u32) -> Self {
        Self { free: BTreeMap::from([(0, size)]), retired: Vec::new(), waiting: VecDeque::new() }
    }

    /// Takes exactly this run; refuses it if a part of it is taken or outside.
    pub fn take_at(&mut self, extent: Extent) -> bool {
        let Some((&first, &len)) = self.free.range(..=extent.first).next_back() else { return false };
        let (end, wanted) =
            (u64::from(first) + u64::from(len), u64::from(extent.first) + u64::from(extent.count));
        if wanted > end {
            return false;
        }
        self.free.remove(&first);
        if extent.first > first {
            self.free.insert(first, extent.first - first);
        }
        if wanted < end {
            self.free.insert(extent.first + extent.count, (end - wanted) as u32);
        }
        true
    }

    pub fn take(&mut self, count: u32, now: Tick) -> Option<Extent> {
        while let Some(&(since, extent)) = self.waiting.front() {
            if now.0 < since.0.saturating_add(GRACE_TICKS) {
                break;
            }
            self.waiting.pop_front();
            self.give_back(extent);
        }
        let (&first, _) = self.free.iter().find(|&(_, &len)| len >= count)?;
        let extent = Extent { first, count };
        self.take_at(extent).then_some(extent)
    }

    /// Taken by mistake and never shown to the kernel.
    pub fn untake(&mut self, extent: Extent) {
        self.give_back(extent);
    }

    pub fn retire(&mut self, extent: Extent) {
        self.retired.push(extent);
    }

    /// The kernel no longer names what was retired.
    pub fn release(&mut self, now: Tick) {
        self.waiting.extend(self.retired.drain(..).map(|e| (now, e)));
    }

    fn give_back(&mut self, extent: Extent) {
        let (mut first, mut len) = (extent.first, extent.count);
        if let Some((&before, &before_len)) = self.free.range(..first).next_back()
            && before + before_len == first
        {
            self.free.remove(&before);
            (first, len) = (before, before_len + len);
        }
        if let Some(after) = self.free.remove(&(first + len)) {
            len += after;
        }
        self.free.insert(first, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_merged_when_they_come_back() {
        let mut places = Places::new(10);
        let runs: Vec<Extent> = (0..5).map(|_| places.take(2, Tick(0)).unwrap()).collect();
        assert_eq!(places.take(1, Tick(0)), None);
        for run in [runs[1], runs[3], runs[2]] {
            places.retire(run);
        }
        assert_eq!(places.take(1, Tick(99)), None);
        places.release(Tick(99));
        assert_eq!(places.take(1, Tick(99)), None);
        assert_eq!(places.take(6, Tick(99 + GRACE_TICKS)), Some(Extent { first: 2, count: 6 }));
    }

    #[test]
    fn a_run_is_taken_once() {
        let mut places = Places::new(10);
        assert!(places.take_at(Extent { first: 3, count: 4 }));
        assert!(!places.take_at(Extent { first: 6, count: 1 }));
        assert!(!places.take_at(Extent { first: 8, count: 3 }));
        assert!(!places.take_at(Extent { first: u32::MAX, count: u32::MAX }));
        assert_eq!(places.take(3, Tick(0)), Some(Extent { first: 0, count: 3 }));
        assert_eq!(places.take(3, Tick(0)), Some(Extent { first: 7, count: 3 }));
    }
}
