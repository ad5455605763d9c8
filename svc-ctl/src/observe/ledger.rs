//! The one list of complaints. Whoever finds something wrong sets its complaints here; log, status and Events read them.

use std::sync::Arc;

use imbl::OrdMap;
use tokio::sync::watch;

use crate::model::complaint::{Complaint, Origin};

/// Everything that is wrong now, by who found it. A clone is cheap; two of them are compared in the time of what differs.
pub type Complaints = OrdMap<Origin, Arc<[Complaint]>>;

/// Writes complaints; a clone writes to the same list.
#[derive(Clone, Debug)]
pub struct Ledger(watch::Sender<Complaints>);

impl Default for Ledger {
    fn default() -> Self {
        Self(watch::Sender::new(Complaints::new()))
    }
}

impl Ledger {
    /// Replaces what an origin complains of. What is new is logged once, what is over likewise.
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

    /// What an origin complains of now.
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
        tracing::info!(object = c.object, field = c.field, reason = c.reason, "no longer so");
    }
}
