//! Finds the first node with a daemon that sends its results. Follows it until it is silent, or a node before it
//! returns.

use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::codec::{Framed, LinesCodec};

use super::Leader;
use super::wire::{self, PERIOD, Results, SILENCE};
use crate::source::manifests::health::heartbeat::Peer;

/// A connection to the candidate of this index.
struct Connection {
    index: usize,
    lines: Framed<TcpStream, LinesCodec>,
}

/// Learns for ever.
pub async fn run(candidates: Vec<Peer>, leader: watch::Sender<Option<Leader>>, bell: Arc<Notify>) {
    let publish = |now: Leader| {
        leader.send_replace(Some(now));
        bell.notify_one();
    };
    let follow = |connection: &Connection, results: Results| {
        let node = candidates[connection.index].0.clone();
        publish(Leader::Other { node, results: Arc::new(results) });
    };
    loop {
        let (mut connection, results) = match find(&candidates).await {
            Some(found) => found,
            None => {
                tracing::info!("this node probes the Pods");
                publish(Leader::Own);
                find_again(&candidates).await
            }
        };
        tracing::info!(node = candidates[connection.index].0, "another node probes the Pods");
        follow(&connection, results);
        loop {
            let earlier = &candidates[..connection.index];
            let next = tokio::select! {
                results = connection.next() => results,
                (found, results) = find_again(earlier) => {
                    connection = found;
                    tracing::info!(node = candidates[connection.index].0, "an earlier node probes the Pods");
                    Ok(results)
                }
            };
            match next {
                Ok(results) => follow(&connection, results),
                Err(error) => {
                    let node = &candidates[connection.index].0;
                    tracing::info!(node, error = format!("{error:#}"), "sends no results of probes any more");
                    break;
                }
            }
        }
    }
}

/// The first candidate that sends its results.
async fn find(candidates: &[Peer]) -> Option<(Connection, Results)> {
    for (index, (_, address)) in candidates.iter().enumerate() {
        let open = async {
            let mut connection =
                Connection { index, lines: wire::framed(TcpStream::connect(address).await?) };
            let results = connection.next().await?;
            anyhow::Ok((connection, results))
        };
        if let Ok(Ok(found)) = timeout(PERIOD, open).await {
            return Some(found);
        }
    }
    None
}

/// Looks every second.
async fn find_again(candidates: &[Peer]) -> (Connection, Results) {
    if candidates.is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(PERIOD).await;
        if let Some(found) = find(candidates).await {
            return found;
        }
    }
}

impl Connection {
    /// Safe to drop before its end: received octets are kept.
    async fn next(&mut self) -> anyhow::Result<Results> {
        let line = timeout(SILENCE, self.lines.next()).await.context("silent")?.context("closed")??;
        Ok(wire::parse(&line)?)
    }
}
