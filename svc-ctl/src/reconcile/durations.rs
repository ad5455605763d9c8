//! A histogram of durations, small enough to be published with every turn of the loop.

use std::time::Duration;

use serde::Serialize;

/// Buckets with an upper bound, as in kube-proxy.
const BOUNDS: usize = 15;

/// Durations by bucket, and their sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Durations {
    /// The last bucket has no upper bound.
    counts: [u64; BOUNDS + 1],
    sum_ns: u64,
}

impl Durations {
    pub fn add(&mut self, duration: Duration) {
        let class = (0..BOUNDS).find(|&class| duration <= bound(class)).unwrap_or(BOUNDS);
        self.counts[class] += 1;
        self.sum_ns = self.sum_ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// In seconds.
    pub fn sum(&self) -> f64 {
        Duration::from_nanos(self.sum_ns).as_secs_f64()
    }

    /// Upper bounds in seconds, the last one infinite, and the number of durations in each bucket.
    pub fn classes(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = (0..BOUNDS).map(|class| bound(class).as_secs_f64()).chain([f64::INFINITY]);
        bounds.zip(self.counts)
    }
}

/// 1 ms, 2 ms, 4 ms, up to 16.384 s.
const fn bound(class: usize) -> Duration {
    Duration::from_millis(1 << class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_belongs_to_the_first_bucket_whose_bound_it_does_not_exceed() {
        let mut durations = Durations::default();
        for ms in [0, 1, 2, 3, 16_384, 16_385] {
            durations.add(Duration::from_millis(ms));
        }
        let counted: Vec<_> = durations.classes().filter(|(_, count)| *count != 0).collect();
        assert_eq!(counted, [(0.001, 2), (0.002, 1), (0.004, 1), (16.384, 1), (f64::INFINITY, 1)]);
        assert_eq!((durations.count(), durations.sum()), (6, 32.775));
    }
}
