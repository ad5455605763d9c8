//! The time in which requests fail because a server has just died. A request that began in it may fail long afterwards.

use std::time::Duration;

use anyhow::Result;

use crate::agent::{LIMIT, Moment, Report};

#[derive(Debug)]
pub(super) struct Trouble {
    began: Moment,
    /// The end of the last tick in which a request failed or another server answered than should.
    last_seen: Moment,
}

impl Trouble {
    pub(super) fn begin() -> Result<Self> {
        let began = Moment::now()?;
        Ok(Self { began, last_seen: began })
    }

    /// A tick ended. Trouble is over once there was none for longer than a client waits for a connection: fewer ticks without
    /// a failure mean only that clients wait.
    pub(super) fn is_over(&mut self, is_seen: bool) -> Result<bool> {
        Ok(self.is_over_at(Moment::now()?, is_seen))
    }

    fn is_over_at(&mut self, now: Moment, is_seen: bool) -> bool {
        if is_seen {
            self.last_seen = now;
        }
        now.since(self.last_seen) > LIMIT
    }

    pub(super) const fn time(&self) -> Duration {
        self.last_seen.since(self.began)
    }

    /// Failed requests that began in it, or were under way when it began.
    pub(super) fn losses(&self, total: &Report) -> u64 {
        let (from, to) = (self.began.before(LIMIT), self.last_seen);
        total.failed_began.iter().filter(|moment| (from..=to).contains(moment)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_began_before_the_death_was_noticed_are_losses_whenever_they_fail() {
        let now = Moment::now().unwrap();
        let at = |millis: u64| now.before(Duration::from_millis(3_000 - millis));
        let died = at(0);
        let mut trouble = Trouble { began: died, last_seen: died };
        assert!(!trouble.is_over_at(at(250), true), "requests fail");
        assert!(!trouble.is_over_at(at(500), false), "clients wait");
        assert!(!trouble.is_over_at(at(1_100), true), "they waited in vain");
        assert!(!trouble.is_over_at(at(2_000), false) && trouble.is_over_at(at(2_100), false));
        assert_eq!(trouble.time(), Duration::from_millis(1_100));
        let failed_began = vec![died.before(Duration::from_secs(2)), died, at(1_000), at(1_200)];
        let total = Report { failed: 4, failed_began, ..Report::default() };
        assert_eq!(trouble.losses(&total), 2);
    }
}
