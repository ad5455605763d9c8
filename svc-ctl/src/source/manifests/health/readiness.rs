//! Decides from the results of a probe whether a container is ready, as the kubelet does. Pure.

use super::probe::Thresholds;

/// The state of a container, and the number of results in a row against that state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Readiness {
    /// None until the first result of a container that ran before the daemon did.
    is_ready: Option<bool>,
    last: Option<bool>,
    in_a_row: u32,
}

impl Readiness {
    /// A new Pod is not ready until its probe has succeeded often enough.
    pub const NEW: Self = Self { is_ready: Some(false), last: None, in_a_row: 0 };
    /// The time since the Pod started is unknown: its first result decides. Otherwise each start of the daemon would
    /// take Pods out for some periods.
    pub const UNKNOWN: Self = Self { is_ready: None, last: None, in_a_row: 0 };

    /// The result that another node has counted.
    pub const fn learned(is_ready: bool) -> Self {
        Self { is_ready: Some(is_ready), last: None, in_a_row: 0 }
    }

    pub const fn is_ready(self) -> Option<bool> {
        self.is_ready
    }

    /// Counts one result. Returns whether the readiness has changed.
    #[must_use]
    pub fn note(&mut self, is_success: bool, thresholds: Thresholds) -> bool {
        self.in_a_row = if self.last == Some(is_success) { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(is_success);
        let enough = if is_success { thresholds.successes } else { thresholds.failures };
        let decides = self.is_ready.is_none() || self.in_a_row >= enough;
        let is_changed = decides && self.is_ready != Some(is_success);
        if decides {
            self.is_ready = Some(is_success);
        }
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results `+` and `-` in; after each: ready `R`, not ready `n`, or unknown `?`.
    fn played(mut readiness: Readiness, successes: u32, failures: u32, results: &str) -> String {
        let thresholds = Thresholds { successes, failures };
        let letter = |readiness: Readiness| match readiness.is_ready() {
            Some(true) => 'R',
            Some(false) => 'n',
            None => '?',
        };
        let mut states = String::from(letter(readiness));
        for result in results.chars() {
            let before = letter(readiness);
            let is_changed = readiness.note(result == '+', thresholds);
            states.push(letter(readiness));
            assert_eq!(is_changed, before != letter(readiness), "{results}");
        }
        states
    }

    #[test]
    fn results_become_readiness_as_the_kubelet_counts_them() {
        for (start, successes, failures, results, states) in [
            (Readiness::NEW, 1, 3, "+", "nR"),
            (Readiness::NEW, 1, 3, "---", "nnnn"),
            (Readiness::NEW, 1, 3, "+--+", "nRRRR"),
            (Readiness::NEW, 1, 3, "+---", "nRRRn"),
            (Readiness::NEW, 1, 3, "+---+", "nRRRnR"),
            (Readiness::NEW, 1, 1, "+-+-", "nRnRn"),
            (Readiness::NEW, 2, 2, "+-++", "nnnnR"),
            (Readiness::NEW, 2, 2, "++-+-+", "nnRRRRR"),
            (Readiness::NEW, 2, 2, "++--+-++", "nnRRnnnnR"),
            (Readiness::UNKNOWN, 1, 3, "+---", "?RRRn"),
            (Readiness::UNKNOWN, 2, 3, "+", "?R"),
            (Readiness::UNKNOWN, 2, 3, "-++", "?nnR"),
        ] {
            assert_eq!(
                played(start, successes, failures, results),
                states,
                "{successes} {failures} {results}"
            );
        }
    }
}
