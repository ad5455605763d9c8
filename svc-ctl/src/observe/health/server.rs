//! The servers at `--healthz-bind-address` and `--metrics-bind-address`.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio::sync::watch;
use tokio::time::sleep;

use super::answer::{Question, about_daemon};
use super::listen::listen;
use super::{Health, Problems, TRY_AGAIN_AFTER};
use crate::model::rejected::Rejected;
use crate::reconcile::{ReconcileStatus, unix_ms};

/// What load balancers and the kubelet ask.
pub fn health(status: &watch::Receiver<ReconcileStatus>) -> Router {
    let ask = |question| {
        let status = status.clone();
        get(move || async move { about_daemon(question, &Health::of(&status.borrow()), unix_ms()) })
    };
    Router::new()
        .route("/healthz", ask(Question::Healthz))
        .route("/livez", ask(Question::Livez))
        .route("/readyz", ask(Question::Readyz))
}

/// What tools ask of any proxy.
pub fn metrics() -> Router {
    Router::new().route("/healthz", get(async || "ok")).route("/proxyMode", get(async || "svc"))
}

/// Serves for ever; a port that is taken is waited for.
pub async fn serve(flag: &'static str, address: SocketAddr, router: Router, problems: Problems) {
    loop {
        match listen(address) {
            Ok(listener) => {
                problems.set(flag, &[]);
                if let Err(error) = axum::serve(listener, router.clone()).await {
                    tracing::warn!(flag, %error, "listening ended");
                }
            }
            Err(error) => problems.set(flag, &[Rejected::new(flag, address.to_string(), error.to_string())]),
        }
        sleep(TRY_AGAIN_AFTER).await;
    }
}
