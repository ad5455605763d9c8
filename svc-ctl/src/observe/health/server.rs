//! The server at `--healthz-bind-address`, and the loop with which every server waits for its port.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use tokio::sync::watch;
use tokio::time::sleep;

use super::answer::{Question, about_daemon};
use super::listen::listen;
use super::{Health, TRY_AGAIN_AFTER};
use crate::observe::inspect::not_found;
use crate::observe::listeners::Listeners;
use crate::observe::metrics::requests::{HealthPath, HealthRequests};
use crate::programs::HooksStatus;
use crate::reconcile::{Progress, unix_ms};

/// The paths for load balancers and the kubelet.
pub fn health(
    progress: &watch::Receiver<Progress>,
    hooks: &watch::Receiver<HooksStatus>,
    requests: &HealthRequests,
) -> Router {
    let ask = |question| {
        let (progress, hooks, requests) = (progress.clone(), hooks.clone(), requests.clone());
        get(move || async move {
            let mut health = Health::of(&progress.borrow());
            health.is_complete &= hooks.borrow().is_attached;
            let answer = about_daemon(question, &health, unix_ms());
            match question {
                Question::Healthz => requests.answered(HealthPath::Healthz, answer.is_ok),
                Question::Livez => requests.answered(HealthPath::Livez, answer.is_ok),
                Question::Readyz => {}
            }
            answer
        })
    };
    Router::new()
        .route("/healthz", ask(Question::Healthz))
        .route("/livez", ask(Question::Livez))
        .route("/readyz", ask(Question::Readyz))
        .fallback(not_found)
}

/// Serves for ever. If the port is in use, waits for it or fails.
pub async fn serve(
    flag: &'static str,
    address: SocketAddr,
    router: Router,
    listeners: Listeners,
    is_hard_fail: bool,
) -> anyhow::Result<()> {
    loop {
        match listen(address) {
            Ok(listener) => {
                listeners.succeeded(flag);
                if let Err(error) = axum::serve(listener, router.clone()).await {
                    tracing::warn!(flag, %error, "listening ended");
                }
            }
            Err(error) if is_hard_fail => {
                let reason = "listening, and --bind-address-hard-fail is given";
                return Err(error).with_context(|| format!("{flag} {address}: {reason}"));
            }
            Err(error) => listeners.failed(flag, &address.to_string(), &error),
        }
        sleep(TRY_AGAIN_AFTER).await;
    }
}
