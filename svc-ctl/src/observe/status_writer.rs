//! Writes the status file: at once if the last write was long ago, else after a pause with all changes in between.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::ledger::Complaints;
use super::status::{StatusFile, TableStatus};
use super::summary::Summary;
use crate::programs::HooksStatus;
use crate::reconcile::Progress;
use crate::sweeper::SweepReport;

/// Shortest time between two writes.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause before a failed write is retried.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Values in the status file.
#[derive(Clone, Debug)]
pub struct StatusInputs {
    pub progress: watch::Receiver<Progress>,
    pub hooks: watch::Receiver<HooksStatus>,
    pub sweeps: watch::Receiver<SweepReport>,
    pub complaints: watch::Receiver<Complaints>,
}

/// Replaces the status file.
type Write = Arc<dyn Fn(&StatusFile) -> anyhow::Result<()> + Send + Sync>;

/// Updates the file in `run_dir` until one of the senders is dropped. `identity` has the constant parts.
pub async fn run(identity: StatusFile, inputs: StatusInputs, run_dir: PathBuf) -> anyhow::Result<()> {
    write_changes(identity, inputs, Arc::new(move |status| status.write(&run_dir))).await
}

async fn write_changes(identity: StatusFile, mut inputs: StatusInputs, write: Write) -> anyhow::Result<()> {
    let (mut written, mut summary): (Option<StatusFile>, _) = (None, Summary::default());
    let mut failure = None;
    loop {
        let status = inputs.status(&identity, &mut summary);
        if written.as_ref() != Some(&status) {
            let file = status.clone();
            let write = Arc::clone(&write);
            let result =
                tokio::task::spawn_blocking(move || write(&file)).await.context("the status file")?;
            let error = result.err().map(|error| format!("{error:#}"));
            if let Some(text) = &error
                && error != failure
            {
                tracing::warn!("cannot write the status file, will retry: {text}");
            }
            failure = error;
            written = failure.is_none().then_some(status);
        }
        let may_write = Instant::now() + PAUSE;
        let try_again = Instant::now() + TRY_AGAIN_AFTER;
        tokio::select! {
            changed = inputs.changed() => changed?,
            () = sleep_until(try_again), if failure.is_some() => {}
        }
        sleep_until(may_write).await;
    }
}

impl StatusInputs {
    async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        tokio::select! {
            changed = self.progress.changed() => changed,
            changed = self.hooks.changed() => changed,
            changed = self.sweeps.changed() => changed,
            changed = self.complaints.changed() => changed,
        }
    }

    /// The current status. Each value is cloned out of its watch first, so that its writer never waits.
    fn status(&mut self, identity: &StatusFile, summary: &mut Summary) -> StatusFile {
        let progress = self.progress.borrow_and_update().clone();
        let hooks = self.hooks.borrow_and_update().clone();
        let sweeps = self.sweeps.borrow_and_update().clone();
        let complaints = self.complaints.borrow_and_update().clone();
        let table = |table: &str, used, capacity| TableStatus { table: table.to_owned(), used, capacity };
        let of_loop = progress.sizes.iter().map(|size| table(size.table, size.used, size.capacity));
        let of_programs = sweeps.usage.iter().map(|usage| table(usage.table, usage.used, usage.capacity));
        let evicted = sweeps.evicted.iter().map(|(label, count)| ((*label).to_owned(), *count));
        StatusFile {
            synced: progress.synced,
            generation: progress.generation,
            pending_since_unix_ms: progress.pending_since_unix_ms,
            tables: of_loop.chain(of_programs).collect(),
            last_error: progress.last_error,
            failures: progress.failures,
            drifts: progress.drifts,
            unserved: progress.unserved,
            interfaces: hooks.interfaces,
            cgroup: hooks.cgroup,
            masquerade: hooks.masquerade,
            reattached: hooks.reattached,
            counters: sweeps.counters.into_iter().chain(evicted).collect(),
            udp_flows_removed: sweeps.udp_flows_removed,
            udp_sockets_ended: sweeps.udp_sockets_ended,
            udp_sockets_left: sweeps.udp_sockets_left,
            complaints: summary.update(&complaints),
            ..identity.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Times of writes in milliseconds since the start, with the generation written.
    type Log = Arc<Mutex<Vec<(u128, u64)>>>;

    struct Fixture {
        progress: watch::Sender<Progress>,
        _others: (watch::Sender<HooksStatus>, watch::Sender<SweepReport>, watch::Sender<Complaints>),
        log: Log,
        task: tokio::task::JoinHandle<anyhow::Result<()>>,
    }

    impl Fixture {
        fn start(is_broken: bool) -> Self {
            let (progress, progress_reader) = watch::channel(Progress::default());
            let (hooks, hooks_reader) = watch::channel(HooksStatus::default());
            let (sweeps, sweeps_reader) = watch::channel(SweepReport::default());
            let (complaints, complaints_reader) = watch::channel(Complaints::new());
            let inputs = StatusInputs {
                progress: progress_reader,
                hooks: hooks_reader,
                sweeps: sweeps_reader,
                complaints: complaints_reader,
            };
            let (log, start) = (Log::default(), Instant::now());
            let write = {
                let log = Arc::clone(&log);
                move |status: &StatusFile| {
                    let at = start.elapsed().as_millis();
                    log.lock().unwrap().push((at, status.generation));
                    anyhow::ensure!(!is_broken || at > 0, "no room");
                    Ok(())
                }
            };
            let task = tokio::spawn(write_changes(StatusFile::default(), inputs, Arc::new(write)));
            Self { progress, _others: (hooks, sweeps, complaints), log, task }
        }

        fn change(&self, generation: u64) {
            self.progress.send_modify(|progress| progress.generation = generation);
        }

        /// Waits, and returns the writes in the meantime.
        async fn after(&self, ms: u64) -> Vec<(u128, u64)> {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            std::mem::take(&mut self.log.lock().unwrap())
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_written_at_once_and_later_ones_within_50_ms_together() {
        let writer = Fixture::start(false);
        assert_eq!(writer.after(200).await, [(0, 0)]);
        writer.change(1);
        assert_eq!(writer.after(10).await, [(200, 1)]);
        for generation in 2..12 {
            writer.change(generation);
            assert_eq!(writer.after(3).await, []);
        }
        assert_eq!(writer.after(100).await, [(250, 11)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unchanged_status_is_not_written() {
        let writer = Fixture::start(false);
        writer.after(200).await;
        writer.progress.send_modify(|progress| progress.updated_unix_ms = Some(7));
        assert_eq!(writer.after(200).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_fails_is_tried_again() {
        let writer = Fixture::start(true);
        assert_eq!(writer.after(4_000).await, [(0, 0)]);
        assert_eq!(writer.after(4_000).await, [(5_000, 0)]);
        assert_eq!(writer.after(60_000).await, []);
    }
}
