//! Removes old entries from the tables that programs fill: expired flows and affinity entries, and those of endpoints
//! that are gone. Runs on a thread of its own, because reading a full table takes a tenth of a second; two sweeps
//! never overlap.

mod affinity;
mod evictions;
mod flows;
mod kernel;
mod live;
mod pass;
mod schedule;
mod sockets;
mod stale;
mod sweep;
mod table;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use self::kernel::KernelTables;
pub use self::kernel::{counters, remove_stale, sweep_table};
pub use self::live::{LiveReport, SnatUse};
pub use self::pass::{Pass, Translated};
pub use self::sockets::EndedSockets;
use self::sweep::Sweep;
pub use self::sweep::{SweepReport, SweptTables};
pub use self::table::Table;
use crate::dataplane::pins::Pins;
use crate::observe::ledger::Ledger;
use crate::reconcile::InForce;

/// Interval between checks of the tables for expired entries.
const PERIOD: Duration = Duration::from_secs(5);
/// The pause after a sweep is this many times as long as the sweep, so that many losses in a row take at most a fifth
/// of a core.
const PAUSE: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Settings of the sweeper.
#[derive(Clone, Debug)]
pub struct SweepSettings {
    pub node: String,
    pub pins: Pins,
    /// Directories with named network namespaces of pods.
    pub netns_dirs: Vec<PathBuf>,
}

/// The sweeper's thread. It ends when the publisher of the tables in force is dropped.
pub struct Sweeper {
    ended: oneshot::Receiver<()>,
}

impl Sweeper {
    pub fn start(
        settings: SweepSettings,
        in_force: watch::Receiver<InForce>,
        publish: watch::Sender<SweepReport>,
        ledger: Ledger,
    ) -> anyhow::Result<Self> {
        let tables = KernelTables::new(settings.pins, settings.netns_dirs);
        Self::over(tables, &settings.node, in_force, publish, ledger)
    }

    /// The same over given tables.
    pub fn over(
        tables: impl SweptTables + Send + 'static,
        node: &str,
        in_force: watch::Receiver<InForce>,
        publish: watch::Sender<SweepReport>,
        ledger: Ledger,
    ) -> anyhow::Result<Self> {
        let sweep = Sweep::new(tables, ledger, node);
        let (ends, ended) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .context("making the sweeper's runtime")?;
        let work = move || {
            runtime.block_on(follow(sweep, in_force, &publish));
            // A panic drops the sender unused.
            let _ = ends.send(());
        };
        thread::Builder::new().name("svc-sweeper".to_owned()).spawn(work).context("starting the sweeper")?;
        Ok(Self { ended })
    }

    /// Waits until the thread ends: it returns an error if that was by a panic.
    pub async fn ended(self) -> anyhow::Result<()> {
        self.ended.await.context("it panicked")
    }
}

/// Sweeps now, then periodically and after each loss.
async fn follow<T: SweptTables>(
    mut sweep: Sweep<T>,
    mut in_force: watch::Receiver<InForce>,
    publish: &watch::Sender<SweepReport>,
) {
    loop {
        let began = Instant::now();
        let now_in_force = in_force.borrow_and_update().clone();
        sweep.run(&now_in_force, began);
        publish.send_if_modified(|published| {
            let is_new = published != sweep.report();
            if is_new {
                published.clone_from(sweep.report());
            }
            is_new
        });
        // Losses during the pause are handled together.
        sleep(began.elapsed().saturating_mul(PAUSE).min(LONGEST_PAUSE)).await;
        let rest = PERIOD.saturating_sub(began.elapsed());
        let has_failed = sweep.is_loss(&now_in_force);
        let is_new_loss = in_force.wait_for(|in_force| !has_failed && sweep.is_loss(in_force));
        if let Ok(Err(_)) = timeout(rest, is_new_loss).await {
            return;
        }
    }
}
