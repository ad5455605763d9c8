//! Complaints about addresses that the daemon could not listen at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::ledger::Ledger;
use crate::model::complaint::{Complaint, Kind, Origin};

/// The complaints of all listeners but those of health check node ports; a clone writes to the same list.
#[derive(Clone, Debug)]
pub struct Listeners {
    ledger: Ledger,
    failures: Arc<Mutex<BTreeMap<&'static str, Complaint>>>,
}

impl Listeners {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, failures: Arc::default() }
    }

    /// Listening at an address, which a flag names, has failed.
    pub fn failed(&self, flag: &'static str, address: &str, error: &std::io::Error) {
        self.change(|all| {
            all.insert(flag, Complaint::new(Kind::Failed, flag, address, error.to_string()));
        });
    }

    pub fn succeeded(&self, flag: &'static str) {
        self.change(|all| drop(all.remove(flag)));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<&'static str, Complaint>)) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut failures);
        // Under the lock: the ledger gets the lists in the order in which they were made.
        self.ledger.set(Origin::Listeners, failures.values().cloned().collect());
    }
}
