//! Our own Node object: Services are served without it, and a complaint says that it is missing.

use crate::model::complaint::{Complaint, Kind, Origin};
use crate::observe::ledger::Ledger;
use crate::source::event::{Batch, Event, SourceEvent};

/// Follows the Node and complains while it is missing.
pub struct OwnNode {
    name: String,
    ledger: Ledger,
    is_there: bool,
    /// The model knows whether the Node exists.
    was_listed: bool,
}

impl OwnNode {
    pub fn new(name: &str, ledger: &Ledger) -> Self {
        Self { name: name.to_owned(), ledger: ledger.clone(), is_there: false, was_listed: false }
    }

    pub fn observe(&mut self, batch: &Batch) {
        for event in batch {
            let SourceEvent::Node(event) = event else { continue };
            match event {
                Event::Init => self.is_there = false,
                Event::InitApply(_) => self.is_there = true,
                Event::InitDone => {
                    self.was_listed = true;
                    self.works();
                }
                Event::Apply(_) | Event::Delete(_) => {
                    self.is_there = matches!(event, Event::Apply(_));
                    self.works();
                }
            }
        }
    }

    /// The API server responds: the Node exists or not.
    pub fn works(&self) {
        self.complain((!self.is_there).then_some("there is no Node of this name"));
    }

    /// The Node cannot be read. Returns an empty list if the model has had none: it waits for one.
    pub fn refused(&mut self, reason: &str) -> Batch {
        self.complain(Some(reason));
        match std::mem::replace(&mut self.was_listed, true) {
            true => Batch::new(),
            false => vec![SourceEvent::Node(Event::Init), SourceEvent::Node(Event::InitDone)],
        }
    }

    fn complain(&self, reason: Option<&str>) {
        let complaint = reason.map(|reason| {
            let text = format!(
                "{reason}: Services are served without this node's zone, addresses and pod CIDRs \
                 (is --hostname-override right?)"
            );
            Complaint::new(Kind::Node, format!("Node {}", self.name), "", text)
        });
        self.ledger.set(Origin::ThisNode, complaint.into_iter().collect());
    }
}
