//! Renews the daemon's lease each second. Without the lease the socket hooks serve the sockets of pods, because interfaces of
//! new pods get no programs then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::HooksStatus;
use crate::dataplane::lease::LeaseTable;

const PERIOD: Duration = Duration::from_secs(1);

/// Runs until the programs' thread ends, or the table cannot be written. When it is dropped, the hooks learn it at once.
pub async fn run(table: Arc<LeaseTable>, mut hooks: watch::Receiver<HooksStatus>) -> anyhow::Result<()> {
    let table = EndsOnDrop(table);
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_attached = hooks.borrow_and_update().is_attached;
        if is_attached {
            table.0.renew()?
        } else {
            table.0.end()?
        }
        tokio::select! {
            _ = period.tick() => {}
            changed = hooks.changed() => changed?,
        }
    }
}

struct EndsOnDrop(Arc<LeaseTable>);

impl Drop for EndsOnDrop {
    fn drop(&mut self) {
        // If it fails, the lease ends by itself.
        let _ = self.0.end();
    }
}
