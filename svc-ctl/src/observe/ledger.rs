//! The list of all complaints. Every part of the daemon sets its own; log, status and Events read them.

use std::sync::Arc;

use imbl::OrdMap;
use tokio::sync::watch;

use crate::model::complaint::{Complaint, Origin};

/// All current complaints, by origin. A clone is cheap; comparing two takes time in proportion to their differences.
pub type Complaints = OrdMap<Origin, Arc<[Complaint]>>;

/// Writes complaints. A clone writes to the same list.
#[derive(Clone, Debug)]
pub struct Ledger(watch::Sender<Complaints>);

impl Default for Ledger {
    fn default() -> Self {
        Self(watch::Sender::new(Complaints::new()))
    }
}

impl Ledger {
    /// Replaces an origin's complaints. Logs each new one and each resolved one once.
    pub fn set(&self, origin: Origin, mut complaints: Vec<Complaint>) {
        complaints.sort_unstable();
        complaints.dedup();
        self.0.send_if_modified(|all| {
            let before = all.get(&origin).map_or(&[][..], |list| list.as_ref());
            if before == complaints.as_slice() {
                return false;
            }
            log(before, &complaints);
            match complaints.is_empty() {
                true => all.remove(&origin),
                false => all.insert(origin, complaints.into()),
            };
            true
        });
    }

    /// An origin's current complaints.
    pub fn get(&self, origin: &Origin) -> Vec<Complaint> {
        self.0.borrow().get(origin).map_or_else(Vec::new, |list| list.to_vec())
    }

    pub fn subscribe(&self) -> watch::Receiver<Complaints> {
        self.0.subscribe()
    }
}

fn log(before: &[Complaint], now: &[Complaint]) {
    for c in now.iter().filter(|c| !before.contains(c)) {
        tracing::warn!(
            object = c.object,
            field = c.field,
            reason = c.reason,
            kind = c.kind.event_reason(),
            "complaint"
        );
    }
    for c in before.iter().filter(|c| !now.contains(c)) {
        tracing::info!(object = c.object, field = c.field, reason = c.reason, "resolved");
    }
}
