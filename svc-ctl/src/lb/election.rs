//! The election of the one node that gives addresses, by a Lease. Pure: the inputs are the read Lease and the time; the
//! output is the next request.
//!
//! A Lease is over when it has not changed for its duration by this node's own clock, so clocks that differ do no harm.

use super::claim::Millis;

/// A holder that does not renew its Lease for this long has lost it.
pub const DURATION: Millis = 15_000;
/// Pause between two looks at the Lease.
pub const PERIOD: Millis = 3_000;
/// The holder gives addresses for this long after it asked for the last renewal that was granted. The rest of [`DURATION`] is for
/// requests that are on their way.
const ACTS_FOR: Millis = 10_000;

/// A Lease as it is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseRecord {
    pub holder: String,
    /// Changes with each renewal.
    pub renewed: String,
    pub duration: Millis,
}

/// The next request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    Create,
    Renew,
    /// The Lease has expired or has no holder.
    Take,
    Wait,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    /// The Lease, and the time of its last change.
    seen: Option<(LeaseRecord, Millis)>,
    granted: Option<Millis>,
}

impl Election {
    pub const fn new(identity: String) -> Self {
        Self { identity, seen: None, granted: None }
    }

    /// The Lease was read.
    pub fn see(&mut self, lease: Option<LeaseRecord>, now: Millis) -> Step {
        let Some(lease) = lease else {
            self.seen = None;
            return Step::Create;
        };
        let since = match &self.seen {
            Some((known, since)) if *known == lease => *since,
            _ => now,
        };
        let step = match lease.holder.as_str() {
            holder if holder == self.identity => Step::Renew,
            "" => Step::Take,
            _ if now >= since + lease.duration => Step::Take,
            _ => Step::Wait,
        };
        if step == Step::Wait {
            self.granted = None;
        }
        self.seen = Some((lease, since));
        step
    }

    /// The API server has accepted a request of [`Self::see`] that was sent at this time.
    pub fn grant(&mut self, asked_at: Millis) {
        self.granted = Some(asked_at);
    }

    /// Until when this node may give addresses.
    pub fn acts_until(&self) -> Option<Millis> {
        self.granted.map(|at| at + ACTS_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: &str) -> Option<LeaseRecord> {
        Some(LeaseRecord { holder: holder.to_owned(), renewed: renewed.to_owned(), duration: DURATION })
    }

    #[test]
    fn a_lease_is_taken_only_when_its_holder_does_not_renew_it() {
        let mut b = Election::new("b".to_owned());
        for (now, read, expected) in [
            (0, None, Step::Create),
            (1_000, lease("a", "1"), Step::Wait),
            (15_999, lease("a", "1"), Step::Wait),
            (16_000, lease("a", "2"), Step::Wait),
            (30_999, lease("a", "2"), Step::Wait),
            (31_000, lease("a", "2"), Step::Take),
            (32_000, lease("b", "3"), Step::Renew),
            (33_000, lease("", "3"), Step::Take),
        ] {
            assert_eq!(b.see(read, now), expected, "at {now}");
        }
    }

    #[test]
    fn a_holder_stops_before_another_may_begin() {
        let (mut a, mut b) = (Election::new("a".to_owned()), Election::new("b".to_owned()));
        assert_eq!((a.see(None, 0), a.acts_until()), (Step::Create, None));
        a.grant(0);
        assert_eq!(b.see(lease("a", "0"), 1), Step::Wait);
        // From here on the API server is away for a.
        let taken = (1..).find(|now| b.see(lease("a", "0"), *now) == Step::Take).unwrap();
        assert!(a.acts_until().unwrap() < taken);
        assert_eq!((a.see(lease("b", "1"), taken), a.acts_until()), (Step::Wait, None));
    }
}
