//! Failures of requests, and the pause before the next request.

use std::error::Error;
use std::io;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use kube::core::Status;

/// Pauses grow from the first to the longest. Each gets up to as much again at random, so that the nodes of a cluster
/// do not return at the same time.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(20))
    .with_factor(2.0)
    .without_max_times()
    .with_jitter();
/// A healthy server may refuse this often in a row: the version is too old, lists cannot be streamed, the selector is
/// unknown. After that a refusal counts as a failure.
const REFUSALS: u32 = 3;
/// A server may request a longer pause than ours, up to this.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// A failed request to the API server.
#[derive(Debug)]
pub struct Failure {
    /// The response's status, if there was a response.
    pub code: Option<u16>,
    pub text: String,
    /// The pause that the server requests.
    pub retry_after: Duration,
}

impl Failure {
    pub const fn of_text(text: String) -> Self {
        Self { code: None, text, retry_after: Duration::ZERO }
    }

    pub fn of_status(status: &Status) -> Self {
        let rights = "apply the ClusterRole of the chart (deploy/rbac.yaml) and its binding";
        Self::of_status_with_cure(status, (status.code == 403).then_some(rights))
    }

    fn of_status_with_cure(status: &Status, cure: Option<&str>) -> Self {
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let unauthorized = (status.code == 401).then_some("the token or certificate is not valid here");
        let cure = cure.or(unauthorized).map_or_else(String::new, |cure| format!(": {cure}"));
        Self {
            code: Some(status.code),
            text: format!("{} ({}){cure}", status.message, status.code),
            retry_after: Duration::from_secs(seconds.into()).min(LONGEST_WISH),
        }
    }

    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            kube::Error::Service(error) => Self::of_text(of_connection(error.as_ref())),
            other => Self::of_text(with_causes(other)),
        }
    }

    /// Like [`Self::of`], with the remedy for a request that is forbidden, or for a missing namespace or object.
    pub fn with_cure(error: &kube::Error, cure: &str) -> Self {
        match error {
            kube::Error::Api(status) => {
                let is_cured = matches!(status.code, 403 | 404);
                Self::of_status_with_cure(status, is_cured.then_some(cure))
            }
            other => Self::of(other),
        }
    }

    pub fn of_io(error: &io::Error) -> Self {
        Self::of_text(with_causes(error))
    }
}

/// The cause of a request that was not answered, without the names of the library's layers in front of it.
fn of_connection(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    loop {
        // An I/O error that wraps another one does not name it as its source.
        let wrapped = innermost.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped.map(|error| error as &(dyn Error + 'static)).or_else(|| innermost.source()) {
            Some(cause) => innermost = cause,
            None => break,
        }
    }
    match innermost.downcast_ref::<io::Error>() {
        Some(cause) if cause.raw_os_error().is_some() => format!("no connection: {cause}"),
        _ => with_causes(error),
    }
}

/// The error and its causes; many errors repeat their cause, and many do not.
pub fn with_causes(error: &dyn Error) -> String {
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

/// The pause after a failure. Consecutive failures make it longer.
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
    /// The pause after a failure. `is_refusal`: the server is healthy, and the next request is a different one.
    pub fn after(&mut self, failure: &Failure, is_refusal: bool) -> Duration {
        let pause = match is_refusal && self.refusals < REFUSALS {
            // The pause may be long because the server was away; now it is back.
            true => {
                self.refusals += 1;
                PAUSES.build().next()
            }
            false => self.backoff.next(),
        };
        pause.unwrap_or(LONGEST_WISH).max(failure.retry_after)
    }

    /// Called after a success.
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
    fn a_refusal_has_its_remedy_and_a_failed_connection_only_its_cause() {
        let status: Status =
            serde_json::from_value(serde_json::json!({"code": 403, "message": "nodes is forbidden"}))
                .unwrap();
        let text = Failure::of_status(&status).text;
        assert!(text.starts_with("nodes is forbidden (403): apply the ClusterRole"), "{text}");
        let text = Failure::with_cure(&kube::Error::Api(Box::new(status)), "set rbac.loadBalancer").text;
        assert_eq!(text, "nodes is forbidden (403): set rbac.loadBalancer");
        let refused = io::Error::from_raw_os_error(111);
        let layered = io::Error::other(io::Error::other(refused));
        let text = Failure::of(&kube::Error::Service(Box::new(layered))).text;
        assert_eq!(text, "no connection: Connection refused (os error 111)");
    }

    #[test]
    fn a_busy_server_determines_the_pause() {
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
