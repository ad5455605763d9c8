//! Complaints about addresses at which the daemon cannot listen.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::ledger::Ledger;
use crate::model::complaint::{Complaint, Kind, Origin};

/// The complaints of all listeners except those of health check node ports. A clone writes to the same list.
#[derive(Clone, Debug)]
pub struct Listeners {
    ledger: Ledger,
    failures: Arc<Mutex<BTreeMap<&'static str, Complaint>>>,
}

impl Listeners {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, failures: Arc::default() }
    }

    /// Notes a failure to listen at an address that `flag` names.
    pub fn failed(&self, flag: &'static str, address: &str, error: &io::Error) {
        let cure = match error.kind() {
            io::ErrorKind::AddrInUse => "; `ss -lntp` names the process that has the port. It is tried again",
            io::ErrorKind::AddrNotAvailable => "; this node has no such address. It is tried again",
            _ => "",
        };
        self.refused(flag, address, format!("{error}{cure}"));
    }

    /// Notes that svc cannot listen at an address that `flag` names.
    pub fn refused(&self, flag: &'static str, address: &str, reason: String) {
        self.change(|all| {
            all.insert(flag, Complaint::new(Kind::Failed, flag, address, reason));
        });
    }

    pub fn succeeded(&self, flag: &'static str) {
        self.change(|all| drop(all.remove(flag)));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<&'static str, Complaint>)) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut failures);
        // Under the lock, so that the ledger gets the lists in order.
        self.ledger.set(Origin::Listeners, failures.values().cloned().collect());
    }
}
