//! The programs' thread: waits for interfaces, requests and timers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::HooksStatus;
use super::hooks::Hooks;
use super::requests::{Replacements, Request};
use crate::dataplane::lease::LeaseTable;
use crate::model::node::NodeAddresses;
use crate::node::watch::Observed;
use crate::plan::capacity::Capacity;

/// Interval between checks of attachments and pins.
const RESTORE_PERIOD: Duration = Duration::from_secs(5);
/// Pause after the first failure to attach; it doubles up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Channels between this thread and the others.
pub struct Channels {
    pub observed: watch::Receiver<Option<Observed>>,
    pub inbox: mpsc::UnboundedReceiver<Request>,
    pub asked: mpsc::UnboundedReceiver<Capacity>,
    /// There are load-balancer pools.
    pub has_pools: watch::Receiver<bool>,
    pub hooks: watch::Sender<HooksStatus>,
    pub addresses: watch::Sender<Option<NodeAddresses>>,
    pub lease: Arc<LeaseTable>,
}

/// Runs until the other end of the channels is closed.
pub fn run(hooks: Hooks, replacements: Replacements, channels: Channels) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .context("starting the runtime of the programs' thread")?;
    runtime.block_on(serve(hooks, replacements, channels))
}

async fn serve(
    mut hooks: Hooks,
    mut replacements: Replacements,
    mut channels: Channels,
) -> anyhow::Result<()> {
    let first =
        channels.observed.wait_for(Option::is_some).await.context("no interfaces were listed")?.clone();
    if let Some(observed) = first {
        // Published first, so that the tables are planned while programs load.
        channels.addresses.send_replace(Some(hooks.list(&observed)));
        hooks.start(&observed)?;
    }
    channels.observed.mark_unchanged();
    hooks.restore();
    replacements.start(&hooks);
    let mut restore = interval(RESTORE_PERIOD);
    restore.set_missed_tick_behavior(MissedTickBehavior::Delay);
    restore.reset();
    let mut pause = Pause::default();
    loop {
        let status = hooks.status();
        // First, so that a reader of the status finds the socket hooks informed. If it fails, `lease` says why.
        if status.is_attached && !channels.hooks.borrow().is_attached {
            let _ = channels.lease.renew();
        }
        channels.hooks.send_if_modified(|current| {
            let is_new = *current != status;
            *current = status;
            is_new
        });
        let retry = pause.until(hooks.has_failed());
        tokio::select! {
            changed = channels.observed.changed() => {
                changed.context("interfaces are no longer watched")?;
                let observed = channels.observed.borrow_and_update().clone();
                if let Some(observed) = observed {
                    let now = Some(hooks.observe(&observed));
                    channels.addresses.send_if_modified(|current| {
                        let is_new = *current != now;
                        *current = now;
                        is_new
                    });
                }
            }
            Some(request) = channels.inbox.recv() => replacements.take(request, &mut hooks),
            Ok(()) = channels.has_pools.changed() => {
                if *channels.has_pools.borrow_and_update() {
                    replacements.look_up_pools(&hooks);
                }
            }
            Some(capacity) = channels.asked.recv() => replacements.ask(capacity, &hooks),
            _ = restore.tick() => hooks.restore(),
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                pause.grow();
                hooks.retry();
            }
            () = channels.hooks.closed() => return Ok(()),
        }
    }
}

/// When to retry after a failure.
#[derive(Default)]
struct Pause {
    next: Option<(Instant, Duration)>,
}

impl Pause {
    /// Time of the next attempt; `None` if nothing has failed.
    fn until(&mut self, has_failed: bool) -> Option<Instant> {
        self.next = match self.next {
            _ if !has_failed => None,
            None => Some((Instant::now() + FIRST_PAUSE, FIRST_PAUSE)),
            next => next,
        };
        self.next.map(|(at, _)| at)
    }

    fn grow(&mut self) {
        let pause = self.next.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        self.next = Some((Instant::now() + pause, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_with_growing_pauses() {
        let mut pause = Pause::default();
        assert_eq!(pause.until(false), None);
        let mut waited = Vec::new();
        for _ in 0..10 {
            let next = pause.until(true).unwrap();
            assert_eq!(pause.until(true), Some(next));
            waited.push((next - Instant::now()).as_millis());
            pause.grow();
        }
        assert_eq!(waited, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(pause.until(false), None);
        assert_eq!(pause.until(true).unwrap() - Instant::now(), FIRST_PAUSE);
    }
}
