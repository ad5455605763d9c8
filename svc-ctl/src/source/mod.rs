//! Sources of Services and endpoints: a Kubernetes API, or a folder of manifests. Both send the same events and set
//! their complaints in the ledger.

pub mod event;
pub mod kubernetes;
pub mod load_balancer;
pub mod manifests;
#[cfg(test)]
pub mod sample;

use std::path::{Path, PathBuf};

use kube::Client;
use tokio::sync::{mpsc, watch};

use crate::observe::ledger::{Complaints, Ledger};
use event::Batch;

/// A source that has been checked and can start.
pub enum CheckedSource {
    Manifests(PathBuf, manifests::follow::Options),
    Kubernetes(Box<Client>, kubernetes::Options),
}

impl CheckedSource {
    pub fn manifests(path: &Path, options: manifests::follow::Options) -> anyhow::Result<Self> {
        manifests::Manifests::open(path)?;
        Ok(Self::Manifests(path.to_owned(), options))
    }

    pub async fn kubernetes(options: kubernetes::Options) -> anyhow::Result<Self> {
        Ok(Self::Kubernetes(Box::new(kubernetes::connect(&options).await?), options))
    }

    /// Runs until the events' receiver is dropped. `complaints` are published at the source if it supports that; the
    /// source's own complaints go into `ledger`.
    pub async fn run(
        self,
        events: mpsc::Sender<Batch>,
        complaints: watch::Receiver<Complaints>,
        ledger: Ledger,
    ) -> anyhow::Result<()> {
        match self {
            Self::Manifests(path, options) => manifests::follow::run(path, options, events, &ledger).await,
            Self::Kubernetes(client, options) => {
                kubernetes::run(*client, options, events, complaints, ledger).await;
                Ok(())
            }
        }
    }
}
