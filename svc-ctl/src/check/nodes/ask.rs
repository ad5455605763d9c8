//! Asks every node at `/readyz`, some at a time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{StatusCode, Uri};
use futures::StreamExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::{NodeFact, Readiness};

/// Nodes that are asked at a time.
const AT_ONCE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);
/// Octets of an answer.
const LONGEST: usize = 64 * 1024;

/// The answers, in the order of the nodes.
pub async fn all(nodes: Vec<(String, Option<IpAddr>)>, port: u16) -> Vec<NodeFact> {
    let ask = async |(name, address): (String, Option<IpAddr>)| {
        let answer = match address {
            Some(address) => one(SocketAddr::new(address, port)).await,
            None => Err("it has no address".to_owned()),
        };
        NodeFact { name, address, answer }
    };
    futures::stream::iter(nodes.into_iter().map(ask)).buffered(AT_ONCE).collect().await
}

async fn one(address: SocketAddr) -> Result<Readiness, String> {
    match timeout(PATIENCE, get(address)).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// A daemon that is not ready answers as well.
async fn get(address: SocketAddr) -> anyhow::Result<Readiness> {
    let (_, body) = page(address, "/readyz", LONGEST).await?;
    // Another proxy answers in plain text, so its state is unknown.
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}

/// Status and body of a page of a daemon. A body of more than `largest` octets is an error.
pub async fn page(address: SocketAddr, path: &str, largest: usize) -> anyhow::Result<(StatusCode, Bytes)> {
    let uri: Uri = format!("http://{address}{path}").parse()?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let answer = client.get(uri).await.context("cannot be reached")?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), largest).await.context("the answer broke off")?;
    Ok((status, body))
}
