//! Tells the socket hooks, each second, that programs serve the interfaces of pods. While they hear nothing, they serve
//! the sockets of pods themselves: interfaces of new pods get no programs then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::HooksStatus;
use crate::dataplane::presence::PresenceTable;

const PERIOD: Duration = Duration::from_secs(1);

/// Runs until the programs' thread ends, or the table cannot be written. When it is dropped, the hooks learn it at once.
pub async fn run(table: Arc<PresenceTable>, mut hooks: watch::Receiver<HooksStatus>) -> anyhow::Result<()> {
    let table = AbsentOnDrop(table);
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_attached = hooks.borrow_and_update().is_attached;
        if is_attached {
            table.0.say_present()?
        } else {
            table.0.say_absent()?
        }
        tokio::select! {
            _ = period.tick() => {}
            changed = hooks.changed() => changed?,
        }
    }
}

struct AbsentOnDrop(Arc<PresenceTable>);

impl Drop for AbsentOnDrop {
    fn drop(&mut self) {
        // If it fails, the last statement ends by itself.
        let _ = self.0.say_absent();
    }
}
