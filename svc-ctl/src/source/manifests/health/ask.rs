//! Asks a container whether it is ready: a TCP connection, an HTTP request or gRPC's health service.

use std::error::Error;

use anyhow::{Context as _, anyhow, ensure};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::ConfigExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt as _};

use super::probe::{Probe, Question};

/// Servers recognise probes by the first word of this header.
const USER_AGENT: &str = "kube-probe/svc";

/// Asks; a clone shares the client.
#[derive(Clone, Debug)]
pub struct Asker {
    http: BoxCloneSyncService<Request<Body>, StatusCode, BoxError>,
}

impl Asker {
    pub fn new() -> anyhow::Result<Self> {
        // As with the kubelet, any server at the address of a Pod counts as the Pod, so certificates are not verified.
        let mut anybody = Config::new(Default::default());
        anybody.accept_invalid_certs = true;
        // Otherwise TLS would fail on a machine without CA certificates.
        anybody.root_cert = Some(Vec::new());
        let connector = anybody.rustls_https_connector().context("TLS for probes")?;
        // Each probe must find out whether a connection is accepted.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let http = client.map_response(|response| response.status()).map_err(BoxError::from);
        Ok(Self { http: BoxCloneSyncService::new(http) })
    }

    /// Ready, or why not.
    pub async fn ask(&self, probe: &Probe) -> Result<(), String> {
        let answer = async {
            match &probe.question {
                Question::Tcp(target) => TcpStream::connect(target).await.map(drop).context(target.clone()),
                Question::Http { url, headers } => self.get(url, headers).await.with_context(|| url.clone()),
                Question::Grpc { target, service } => check(target, service).await.context(target.clone()),
            }
        };
        match timeout(probe.timeout, answer).await {
            Ok(answer) => answer.map_err(|error| format!("{error:#}")),
            Err(_) => Err(format!("{}: no answer within {} s", probe.question, probe.timeout.as_secs())),
        }
    }

    async fn get(&self, url: &str, headers: &[(String, String)]) -> anyhow::Result<()> {
        let mut request = Request::get(url).header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
            request = request.header(header::USER_AGENT, USER_AGENT);
        }
        let request = request.body(Body::empty()).context("no request can be made of it")?;
        let status = self.http.clone().oneshot(request).await.map_err(|error| anyhow!(causes(&*error)))?;
        // Redirections are not followed.
        ensure!(status.is_success() || status.is_redirection(), "{status}");
        Ok(())
    }
}

async fn check(target: &str, service: &str) -> anyhow::Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://{target}"))?.user_agent(USER_AGENT)?;
    let channel = endpoint.connect().await.map_err(|error| anyhow!(causes(&error)))?;
    let question = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(question).await;
    let status = answer.map_err(|status| anyhow!("{}: {}", status.code(), status.message()))?;
    let status = status.into_inner().status();
    ensure!(status == ServingStatus::Serving, "{}", status.as_str_name());
    Ok(())
}

/// The outer errors of the libraries say least.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests;
