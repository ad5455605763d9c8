//! The responses, with exactly kube-proxy's contents (SEM-204 to SEM-207, SEM-210 to SEM-213).

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use svc_common::abi::TABLES_ABI;

use super::Health;
use crate::model::name::ServiceName;

/// A question to the daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Question {
    /// May load balancers use this node?
    Healthz,
    /// Does the daemon work?
    Livez,
    /// Is everything in force that existed at the start? kube-proxy has no such path.
    Readyz,
}

/// A status and its JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthResponse {
    pub is_ok: bool,
    /// Number of ready endpoints on this node, in a response about a Service.
    pub weight: Option<usize>,
    pub body: String,
}

/// Response about the daemon; `now` in milliseconds since 1970.
pub fn about_daemon(question: Question, health: &Health, now: u64) -> HealthResponse {
    let is_healthy = health.is_healthy(now);
    let updated = if is_healthy { now } else { health.updated.unwrap_or_default() };
    // One loop writes both families. Before the first write there is no time to report.
    let status = health.updated.map_or_else(
        || json!({}),
        |updated| {
            let family = json!({"lastUpdated": time(updated), "healthy": is_healthy});
            json!({"IPv4": family, "IPv6": family})
        },
    );
    let mut body = json!({
        "lastUpdated": time(updated),
        "currentTime": time(now),
        "healthy": is_healthy,
        "status": status,
    });
    let is_ok = match question {
        Question::Healthz => {
            body["nodeEligible"] = Value::Bool(health.is_node_eligible);
            is_healthy && health.is_node_eligible
        }
        Question::Livez => is_healthy,
        Question::Readyz => {
            body["complete"] = Value::Bool(health.is_complete);
            // `svc-ctl check --all-nodes` compares them.
            body["version"] = Value::from(env!("CARGO_PKG_VERSION"));
            body["abi"] = Value::from(TABLES_ABI);
            is_healthy && health.is_complete
        }
    };
    HealthResponse { is_ok, weight: None, body: body.to_string() }
}

/// Response about a Service with that many ready endpoints on this node.
pub fn about_service(service: &ServiceName, local_endpoints: usize, is_healthy: bool) -> HealthResponse {
    let quoted = |text: &str| Value::from(text).to_string();
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\t\"localEndpoints\": \
         {local_endpoints},\n\t\"serviceProxyHealthy\": {is_healthy}\n}}",
        quoted(&service.namespace),
        quoted(&service.name)
    );
    HealthResponse { is_ok: is_healthy && local_endpoints > 0, weight: Some(local_endpoints), body }
}

/// A time in RFC 3339.
fn time(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX).to_string()
}

impl IntoResponse for HealthResponse {
    fn into_response(self) -> Response {
        let status = if self.is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let headers = [("content-type", "application/json"), ("x-content-type-options", "nosniff")];
        let mut response = (status, headers, self.body).into_response();
        if let Some(weight) = self.weight {
            response.headers_mut().insert("x-load-balancing-endpoint-weight", weight.into());
        }
        response
    }
}
