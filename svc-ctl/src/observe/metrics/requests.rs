//! Requests that the daemon makes of the API server and that others make of the daemon, counted where they happen.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Part;
use super::page::{Classes, Page, label};

/// Upper bounds of classes in seconds: those of client-go.
const BOUNDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

/// Requests to the API server. A clone counts into the same numbers.
#[derive(Clone, Debug, Default)]
pub struct ApiRequests(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// By status code, method and host.
    answers: BTreeMap<(String, String, String), u64>,
    /// By method and host.
    durations: BTreeMap<(String, String), Latency>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Latency {
    classes: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl ApiRequests {
    /// A request was answered after a time. `code` is `<error>` without a response, as in client-go.
    pub fn answered(&self, method: &str, host: &str, code: &str, took: Duration) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (code.to_owned(), method.to_owned(), host.to_owned());
        *counts.answers.entry(key).or_default() += 1;
        let latency = counts.durations.entry((method.to_owned(), host.to_owned())).or_default();
        let seconds = took.as_secs_f64();
        let class = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        latency.classes[class] += 1;
        latency.sum += seconds;
    }
}

impl Part for ApiRequests {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = counts.answers.iter().map(|((code, method, host), count)| {
            let labels = [("code", code), ("host", host), ("method", method)];
            (labels.map(|(name, value)| (name, value.into())).to_vec(), *count)
        });
        let help = "Requests to the API server, by status code, method and host. \
            The code is <error> where nothing answered.";
        page.counters("rest_client_requests", help, answers)?;
        let durations = counts.durations.iter().map(|((verb, host), latency)| {
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
            let classes = Classes {
                sum: latency.sum,
                count: latency.classes.iter().sum(),
                classes: bounds.zip(latency.classes).collect(),
            };
            (vec![("host", host.into()), ("verb", verb.into())], classes)
        });
        let help = "Seconds from a request to the API server until its answer begins, by verb and host. \
            A watch counts once, when it begins.";
        page.histograms("rest_client_request_duration_seconds", help, durations)
    }
}

/// Questions about the daemon's health. A clone counts into the same numbers.
#[derive(Clone, Debug, Default)]
pub struct HealthRequests(Arc<[Answers; 2]>);

/// Answers of one path.
#[derive(Debug, Default)]
struct Answers {
    ok: AtomicU64,
    unavailable: AtomicU64,
}

/// A path that is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthPath {
    Healthz,
    Livez,
}

impl HealthRequests {
    pub fn answered(&self, path: HealthPath, is_ok: bool) {
        let answers = &self.0[path as usize];
        let count = if is_ok { &answers.ok } else { &answers.unavailable };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Part for HealthRequests {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let metrics = [("proxy_healthz", "/healthz"), ("proxy_livez", "/livez")];
        for (answers, (name, path)) in self.0.iter().zip(metrics) {
            let samples = [("200", &answers.ok), ("503", &answers.unavailable)]
                .map(|(code, count)| (label("code", code), count.load(Ordering::Relaxed)));
            let help = format!("Answers of {path} at --healthz-bind-address, by status code.");
            page.counters(&format!("kubeproxy_{name}"), &help, samples)?;
        }
        Ok(())
    }
}
