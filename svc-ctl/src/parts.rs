//! The parts of the daemon that run until it stops. The first one that ends is named, since the daemon ends with it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch::error::RecvError;
use tokio::task::{self, JoinSet};
use tokio::time::timeout;

/// A part that publishes to others closes their channels a little before it is found to have ended.
const CAUSE_WITHIN: Duration = Duration::from_secs(1);

/// Running parts with their names; they stop when this is dropped.
#[derive(Debug, Default)]
pub struct Parts {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<task::Id, String>,
}

impl Parts {
    /// Must run in a tokio runtime.
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.names.insert(self.tasks.spawn(part).id(), name.into());
    }

    /// Waits until a part ends, also by a panic, and returns an error with its name and reason. A part whose publisher is
    /// gone is not the cause, so the publisher is named if it is one of the parts.
    pub async fn ended(&mut self) -> anyhow::Error {
        let first = self.next().await;
        if !is_consequence(&first) {
            return first;
        }
        let cause = async {
            loop {
                let other = self.next().await;
                if !is_consequence(&other) {
                    return other;
                }
            }
        };
        timeout(CAUSE_WITHIN, cause).await.unwrap_or(first)
    }

    /// For ever, if there are no parts left.
    async fn next(&mut self) -> anyhow::Error {
        let (id, ended) = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ended))) => (id, ended.and_then(|()| anyhow::bail!("without an error"))),
            Some(Err(error)) => (error.id(), Err(error).context("it was stopped")),
            None => std::future::pending().await,
        };
        let name = self.names.remove(&id).unwrap_or_default();
        match ended {
            Ok(()) => anyhow::anyhow!("{name} ended"),
            Err(error) => error.context(format!("{name} ended")),
        }
    }
}

/// The part ended because its publisher had ended.
fn is_consequence(error: &anyhow::Error) -> bool {
    error.downcast_ref::<RecvError>().is_some()
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    async fn follow(mut published: watch::Receiver<u8>) -> anyhow::Result<()> {
        loop {
            published.changed().await.context("following")?;
        }
    }

    #[tokio::test]
    async fn the_part_that_ended_is_named_with_its_reason() {
        let mut parts = Parts::default();
        parts.spawn("the idler", std::future::pending());
        parts.spawn("the reader", async { anyhow::bail!("no such file") });
        assert_eq!(format!("{:#}", parts.ended().await), "the reader ended: no such file");
        parts.spawn("the worker", async { Ok(()) });
        assert_eq!(format!("{:#}", parts.ended().await), "the worker ended: without an error");
    }

    #[tokio::test]
    async fn a_part_that_panics_is_named_with_its_message() {
        let mut parts = Parts::default();
        parts.spawn("the planner", async { panic!("seven is odd") });
        let error = format!("{:#}", parts.ended().await);
        assert!(error.starts_with("the planner ended: ") && error.contains("seven is odd"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_channel_is_explained_by_the_part_that_published_to_it() {
        let (publish, published) = watch::channel(0);
        let mut parts = Parts::default();
        parts.spawn("the status file", follow(published.clone()));
        parts.spawn("metrics", follow(published));
        parts.spawn("the planner", async move {
            drop(publish);
            // Its end is seen later than that of its channel.
            tokio::time::sleep(CAUSE_WITHIN / 2).await;
            anyhow::bail!("a bug")
        });
        assert_eq!(format!("{:#}", parts.ended().await), "the planner ended: a bug");
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_channel_that_no_part_explains_names_its_reader() {
        let (publish, published) = watch::channel(0);
        let mut parts = Parts::default();
        parts.spawn("the status file", follow(published));
        drop(publish);
        assert_eq!(format!("{:#}", parts.ended().await), "the status file ended: following: channel closed");
    }
}
