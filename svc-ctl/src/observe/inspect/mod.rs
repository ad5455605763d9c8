//! The server at `--metrics-bind-address`: `/metrics`, and kube-proxy's pages about configuration and state
//! (SEM-217).

mod answer;
mod negotiate;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::header::{ACCEPT, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use self::answer::{Flagz, Statusz};
use super::metrics::{Metrics, OPEN_METRICS, PROMETHEUS_TEXT};

/// The response of `/proxyMode`.
const MODE: &str = "svc";

/// Data of all pages.
#[derive(Clone, Debug)]
pub struct Inspected {
    pub metrics: Metrics,
    /// As a KubeProxyConfiguration.
    pub configuration: Arc<Value>,
    pub flags: Arc<BTreeMap<String, String>>,
    /// When the daemon started.
    pub start: Timestamp,
}

impl Inspected {
    /// The state before anything is known.
    pub fn empty() -> Self {
        Self {
            metrics: Metrics::empty(),
            configuration: Arc::default(),
            flags: Arc::default(),
            start: Timestamp::UNIX_EPOCH,
        }
    }
}

pub fn router(inspected: Inspected) -> Router {
    let Inspected { metrics, configuration, flags, start } = inspected;
    let configz = json!({ "kubeproxy.config.k8s.io": *configuration }).to_string();
    let statusz = move |headers: HeaderMap| async move {
        negotiate::answer(accept(&headers), &Statusz { start, now: Timestamp::now() })
    };
    let flagz = move |headers: HeaderMap| async move {
        negotiate::answer(accept(&headers), &Flagz(Arc::clone(&flags)))
    };
    Router::new()
        .route("/metrics", get(move |headers: HeaderMap| page(metrics.clone(), is_open(&headers))))
        .route("/healthz", get(async || plain("ok")))
        .route("/proxyMode", get(async || plain(MODE)))
        .route("/configz", get(async move || typed("application/json", configz.clone())))
        .route("/statusz", get(statusz))
        .route("/flagz", get(flagz))
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

fn accept(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The client wants OpenMetrics and not Prometheus' format. As in kube-proxy, a client that accepts both gets
/// Prometheus' format: OpenMetrics writes bucket bounds differently (`1.0` for `1`), which would change the labels of
/// the series.
fn is_open(headers: &HeaderMap) -> bool {
    let accepted = accept(headers);
    accepted.contains("application/openmetrics-text")
        && !["text/plain", "*/*"].iter().any(|kind| accepted.contains(kind))
}

#[cfg(test)]
mod tests;
