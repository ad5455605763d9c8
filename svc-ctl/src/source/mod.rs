//! Where Services and endpoints come from: a Kubernetes API, or a folder of manifests. Both say the same five things,
//! and set their complaints in the ledger.

pub mod event;
pub mod kubernetes;
pub mod manifests;
#[cfg(test)]
pub mod sample;

use std::path::{Path, PathBuf};

use kube::Client;
use tokio::sync::{mpsc, watch};

use crate::observe::ledger::{Complaints, Ledger};
use event::Batch;

/// A source that has been found good and can begin.
pub enum Opened {
    Manifests(PathBuf, manifests::follow::Options),
    Kubernetes(Box<Client>, kubernetes::Options),
}

impl Opened {
    pub fn manifests(path: &Path, options: manifests::follow::Options) -> anyhow::Result<Self> {
        manifests::Manifests::open(path)?;
        Ok(Self::Manifests(path.to_owned(), options))
    }

    pub async fn kubernetes(options: kubernetes::Options) -> anyhow::Result<Self> {
        Ok(Self::Kubernetes(Box::new(kubernetes::connect(&options).await?), options))
    }

    /// Runs until nobody takes events any more. `complaints` go back to where the Services come from, if it takes any; what
    /// the source itself finds wrong goes into `ledger`.
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
