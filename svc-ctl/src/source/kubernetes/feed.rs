//! Output of all watches: batches for the model, and complaints about objects that cannot be listed or read.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use super::message::Unreadable;
use super::read::Meta;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::name::ServiceName;
use crate::observe::ledger::Ledger;
use crate::source::event::Batch;

/// The events' receiver was dropped.
#[derive(Debug)]
pub struct Closed;

pub struct Feed {
    events: mpsc::Sender<Batch>,
    ledger: Ledger,
    origin: Origin,
    /// By kind.
    problems: Mutex<BTreeMap<&'static str, Problems>>,
}

/// Current problems with one kind of object.
#[derive(Debug, Default)]
pub struct Problems {
    failure: Option<String>,
    /// Objects that cannot be parsed, by namespace and name.
    pub unreadable: BTreeMap<(String, String), Complaint>,
}

impl Feed {
    pub fn new(events: mpsc::Sender<Batch>, ledger: Ledger, origin: Origin) -> Self {
        Self { events, ledger, origin, problems: Mutex::default() }
    }

    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub async fn send(&self, batch: Batch) -> Result<(), Closed> {
        match batch.is_empty() {
            true => Ok(()),
            false => self.events.send(batch).await.map_err(|_| Closed),
        }
    }

    pub async fn closed(&self) {
        self.events.closed().await;
    }

    /// Sets the failure of a kind, or clears it.
    pub fn set_failure(&self, plural: &'static str, failure: Option<String>) {
        self.change(plural, |problems| problems.failure = failure);
    }

    pub fn change(&self, plural: &'static str, change: impl FnOnce(&mut Problems)) {
        let mut all = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(plural).or_default());
        let failures = all.iter().filter_map(|(plural, problems)| {
            let failure = problems.failure.as_deref()?;
            Some(Complaint::new(Kind::Source, "Kubernetes API", *plural, failure))
        });
        let unreadable = all.values().flat_map(|problems| problems.unreadable.values().cloned());
        self.ledger.set(self.origin.clone(), failures.chain(unreadable).collect());
    }
}

/// Namespace and name.
pub fn key(meta: &Meta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// A complaint about an object that cannot be parsed. If the object is a Service, its owner gets an Event.
pub fn complaint(kind: &str, unreadable: &Unreadable) -> Complaint {
    let (namespace, name) = key(&unreadable.meta);
    let reason = format!("cannot be read: {}", unreadable.reason);
    let field = unreadable.field.as_str();
    match kind {
        "Service" => {
            Complaint::of_service(Kind::Refused, &ServiceName::new(&namespace, &name), field, reason)
        }
        "Node" => Complaint::refused(format!("Node {name}"), field, reason),
        kind => Complaint::refused(format!("{kind} {namespace}/{name}"), field, reason),
    }
}
