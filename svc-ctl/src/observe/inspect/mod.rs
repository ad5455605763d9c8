//! The server at `--metrics-bind-address`: `/metrics`, and kube-proxy's pages about configuration and state
//! (SEM-217).

mod accept;
mod answer;
mod negotiate;

use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::header::{ACCEPT, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use self::answer::{Flagz, Statusz};
use super::metrics::slis::HealthChecks;
use super::metrics::{Metrics, OPEN_METRICS, PROMETHEUS_TEXT};
use crate::config::ConfigurationInForce;

/// The response of `/proxyMode`.
const MODE: &str = "svc";

/// Data of all pages.
#[derive(Clone, Debug)]
pub struct Inspected {
    pub metrics: Metrics,
    pub configuration: watch::Receiver<ConfigurationInForce>,
    /// When the daemon started.
    pub start: Timestamp,
}

impl Inspected {
    /// The state before anything is known.
    pub fn empty() -> Self {
        Self {
            metrics: Metrics::empty(),
            configuration: watch::channel(ConfigurationInForce::default()).1,
            start: Timestamp::UNIX_EPOCH,
        }
    }
}

pub fn router(inspected: Inspected) -> Router {
    let Inspected { metrics, configuration, start } = inspected;
    let in_force = configuration.clone();
    let configz = async move || {
        let document = Arc::clone(&in_force.borrow().document);
        typed("application/json", json!({ "kubeproxy.config.k8s.io": *document }).to_string())
    };
    let statusz = move |headers: HeaderMap| async move {
        negotiate::answer(accepted(&headers), &Statusz { start, now: Timestamp::now() })
    };
    let flagz = move |headers: HeaderMap| async move {
        let flags = Arc::clone(&configuration.borrow().flags);
        negotiate::answer(accepted(&headers), &Flagz(flags))
    };
    let checks = HealthChecks::default();
    let counted = checks.clone();
    let healthz = async move |RawQuery(query): RawQuery| {
        counted.succeeded();
        let is_verbose = query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
        plain(if is_verbose { "[+]ping ok\nhealthz check passed\n" } else { "ok" })
    };
    let slis = async move || match checks.prometheus_text() {
        Ok(page) => ([(CONTENT_TYPE, PROMETHEUS_TEXT)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    Router::new()
        .route("/metrics/slis", get(slis))
        .route("/metrics", get(move |headers: HeaderMap| page(metrics.clone(), is_open(&headers))))
        .route("/healthz", get(healthz))
        .route("/healthz/ping", get(async || "ok"))
        .route("/proxyMode", get(async || plain(MODE)))
        .route("/configz", get(configz))
        .route("/statusz", get(statusz))
        .route("/flagz", get(flagz))
        .fallback(not_found)
}

/// The response at a path that is not there, with the words of Go's servers.
pub async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, plain("404 page not found\n")).into_response()
}

/// On another thread: a scrape makes system calls, and this runtime's single thread must answer the kubelet.
async fn page(metrics: Metrics, is_open: bool) -> Response {
    let written = spawn_blocking(move || match is_open {
        true => (OPEN_METRICS, metrics.open_metrics()),
        false => (PROMETHEUS_TEXT, metrics.prometheus_text()),
    });
    match written.await {
        Ok((kind, Ok(page))) => ([(CONTENT_TYPE, kind)], page).into_response(),
        Ok((_, Err(_))) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn plain(text: &'static str) -> Response {
    typed("text/plain; charset=utf-8", text.to_owned())
}

fn typed(kind: &'static str, body: String) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, body).into_response()
}

fn accepted(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The client wants OpenMetrics and not Prometheus' format. As in kube-proxy, a client that accepts both gets
/// Prometheus' format: OpenMetrics writes bucket bounds differently (`1.0` for `1`), which would change the labels of
/// the series.
fn is_open(headers: &HeaderMap) -> bool {
    let accepted = accepted(headers);
    accepted.contains("application/openmetrics-text")
        && !["text/plain", "*/*"].iter().any(|kind| accepted.contains(kind))
}

#[cfg(test)]
mod tests;
