//! Why a request has failed, and how long to wait before the next one.

use std::error::Error;
use std::io;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use kube::core::Status;

/// Pauses grow from the first to the longest; each is made up to twice as long, so that all nodes of a cluster do not
/// come back at once.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(20))
    .with_factor(2.0)
    .without_max_times()
    .with_jitter();
/// A server that is well may refuse so often in a row: the version is too old, lists are not streamed, the selector is
/// not known. After that it is a failure like any other.
const REFUSALS: u32 = 3;
/// A server may ask for a longer pause than ours, but not for more than this.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// A request that the API server did not answer as it should.
#[derive(Debug)]
pub struct Failure {
    /// The status of the answer, if there was one.
    pub code: Option<u16>,
    pub text: String,
    /// The server asks for a pause.
    pub retry_after: Duration,
}

impl Failure {
    pub const fn of_text(text: String) -> Self {
        Self { code: None, text, retry_after: Duration::ZERO }
    }

    pub fn of_status(status: &Status) -> Self {
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        Self {
            code: Some(status.code),
            text: format!("{} ({})", status.message, status.code),
            retry_after: Duration::from_secs(seconds.into()).min(LONGEST_WISH),
        }
    }

    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            other => Self::of_text(with_causes(other)),
        }
    }

    pub fn of_io(error: &io::Error) -> Self {
        Self::of_text(with_causes(error))
    }
}

/// The error and what is behind it; many errors repeat their cause, and many do not.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        next = cause.source();
    }
    text
}

/// How long to wait after a failure. Failures in a row make the pauses longer.
pub struct Pauses {
    backoff: ExponentialBackoff,
    refusals: u32,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { backoff: PAUSES.build(), refusals: 0 }
    }
}

impl Pauses {
    /// The pause after a failure. `is_refusal`: the server is well, and something else is asked of it next.
    pub fn after(&mut self, failure: &Failure, is_refusal: bool) -> Duration {
        let pause = match is_refusal && self.refusals < REFUSALS {
            // The pause may have grown long while the server was away; now it is there.
            true => {
                self.refusals += 1;
                PAUSES.build().next()
            }
            false => self.backoff.next(),
        };
        pause.unwrap_or(LONGEST_WISH).max(failure.retry_after)
    }

    /// Something has worked.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_refusals_are_short_three_times() {
        let failure = Failure::of_text("away".to_owned());
        let mut pauses = Pauses::default();
        let grown: Vec<Duration> = (0..20).map(|_| pauses.after(&failure, false)).collect();
        let is_between = |pause: Duration, min: u64| (min..=2 * min).contains(&(pause.as_millis() as u64));
        assert!(
            is_between(grown[0], 200) && is_between(grown[3], 1600) && is_between(grown[19], 20_000),
            "{grown:?}"
        );
        assert!((0..3).all(|_| is_between(pauses.after(&failure, true), 200)));
        assert!(is_between(pauses.after(&failure, true), 20_000));
        pauses.reset();
        assert!(is_between(pauses.after(&failure, false), 200));
    }

    #[test]
    fn a_server_that_is_busy_says_when_to_come_again() {
        let busy = |seconds: u32| -> Status {
            serde_json::from_value(
                serde_json::json!({"code": 429, "details": {"retryAfterSeconds": seconds}}),
            )
            .unwrap()
        };
        let pause = |seconds| Pauses::default().after(&Failure::of_status(&busy(seconds)), false);
        assert_eq!((pause(7), pause(9999)), (Duration::from_secs(7), LONGEST_WISH));
    }
}
