//! Sends the results of this node to other nodes, by TCP at an address of this node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Unbound;
use super::wire::{PERIOD, SILENCE, framed, line_of};
use crate::source::manifests::health::prober::Findings;

/// Pause before listening at an address is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// Connections at the same time: more than there are nodes.
const MOST_CONNECTIONS: usize = 1024;

/// Serves for ever. Connections end with the task.
pub async fn run(
    address: SocketAddr,
    findings: watch::Receiver<Findings>,
    unbound: watch::Sender<Unbound>,
    bell: Arc<Notify>,
) {
    let open = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let bound = TcpListener::bind(address).await;
        unbound.send_modify(|unbound| match &bound {
            Ok(_) => drop(unbound.remove(&address)),
            Err(error) => drop(unbound.insert(address, error.to_string())),
        });
        bell.notify_one();
        if let Ok(listener) = bound {
            while let Ok((socket, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let Ok(permit) = Arc::clone(&open).try_acquire_owned() else { continue };
                let findings = findings.clone();
                connections.spawn(async move {
                    // The other end sees that the connection is over, and looks again.
                    drop(send(socket, findings).await);
                    drop(permit);
                });
            }
        }
        sleep(BIND_AGAIN).await;
    }
}

async fn send(socket: TcpStream, mut findings: watch::Receiver<Findings>) -> anyhow::Result<()> {
    let mut lines = framed(socket);
    loop {
        let line = line_of(&findings.borrow_and_update())?;
        timeout(SILENCE, lines.send(line)).await??;
        if let Ok(change) = timeout(PERIOD, findings.changed()).await {
            change?;
        }
    }
}
