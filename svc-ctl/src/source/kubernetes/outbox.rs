//! Sends complaints to the API server, as Events on the Service or Node that they are about.
//!
//! [`Outbox`] decides what to send and when. [`run`] sends it, and repeats it until the API server has accepted it.
//! All requests together are limited to ten per minute. Complaints wait in order; beyond a hundred only their number
//! is sent. An Event expires after an hour, so a lasting complaint is sent again before.

mod event;
mod notice;
mod publish;
pub mod status;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;

use self::notice::Notice;
pub use self::publish::run;
use crate::model::complaint::Complaint;
use crate::observe::ledger::Complaints;

/// Maximum number of requests in this time.
const RATE: (usize, Duration) = (10, Duration::from_secs(60));
/// Maximum number of waiting complaints; the rest is summarised.
const MAX_WAITING: usize = 100;
/// A lasting complaint is sent again after this time: the API server deletes Events after an hour.
const REPEAT_AFTER: Duration = Duration::from_secs(55 * 60);

/// Sent and waiting notices, and the rate.
#[derive(Debug, Default)]
pub struct Outbox {
    complaints: Complaints,
    states: BTreeMap<Notice, State>,
    waiting: VecDeque<Notice>,
    /// Sent notices, in order of time.
    repeats: VecDeque<(Instant, Notice)>,
    /// Times of the last requests, oldest first.
    recent: VecDeque<Instant>,
    /// Notices that did not fit into the queue and are not summarised yet.
    more: usize,
    summed_up: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of current complaints with this text.
    standing: usize,
    is_waiting: bool,
    said: Option<LastSent>,
}

#[derive(Debug)]
struct LastSent {
    at: Instant,
    /// Uid of the object that got the Event. A later object of the same name has not got it.
    uid: Option<String>,
}

/// The next action.
#[derive(Debug, Eq, PartialEq)]
pub enum Next {
    /// Send this notice, unless the object with this uid has got it already.
    Publish(Notice, Option<String>),
    /// Wait: nothing may be sent before.
    Wait(Instant),
    Idle,
}

impl Outbox {
    /// Takes the current complaints. The cost is in proportion to the changes.
    pub fn turn(&mut self, complaints: &Complaints, now: Instant) {
        let before = std::mem::replace(&mut self.complaints, complaints.clone());
        let mut changed = Vec::new();
        for item in before.diff(complaints) {
            let (over, new): (&[Complaint], &[Complaint]) = match item {
                DiffItem::Add(_, new) => (&[], new),
                DiffItem::Update { old: (_, old), new: (_, new) } => (old, new),
                DiffItem::Remove(_, old) => (old, &[]),
            };
            for notice in new.iter().filter_map(Notice::of) {
                self.states.entry(notice.clone()).or_default().standing += 1;
                changed.push(notice);
            }
            for notice in over.iter().filter_map(Notice::of) {
                if let Some(state) = self.states.get_mut(&notice) {
                    state.standing -= 1;
                }
                changed.push(notice);
            }
        }
        for notice in changed {
            self.queue(notice, now);
        }
    }

    /// Queues a notice if it is current and its object did not get it lately. Forgets it if it is over and was never
    /// sent.
    fn queue(&mut self, notice: Notice, now: Instant) {
        let Some(state) = self.states.get_mut(&notice) else { return };
        if state.standing == 0 {
            let is_said = state.said.is_some();
            if std::mem::take(&mut state.is_waiting) {
                self.waiting.retain(|other| *other != notice);
            }
            if !is_said {
                self.states.remove(&notice);
            }
            return;
        }
        let may_be_heard = notice.service.is_none() && state.said.is_some();
        if state.is_waiting || may_be_heard {
            return;
        }
        if self.waiting.len() < MAX_WAITING {
            state.is_waiting = true;
            self.waiting.push_back(notice);
        } else if state.said.is_none() {
            self.more += 1;
            self.note_said(notice, None, now);
        }
    }

    /// Queues or forgets the notices whose Events may have expired.
    fn repeat(&mut self, now: Instant) {
        while self.repeats.front().is_some_and(|(at, _)| *at + REPEAT_AFTER <= now) {
            let Some((at, notice)) = self.repeats.pop_front() else { return };
            let Some(state) = self.states.get_mut(&notice) else { continue };
            if state.said.as_ref().is_some_and(|said| said.at == at) {
                state.said = None;
                self.queue(notice, now);
            }
        }
    }

    /// The next action. Returns the same until [`Self::settle`].
    pub fn next(&mut self, now: Instant) -> Next {
        self.repeat(now);
        let repeat = self.repeats.front().map(|(at, _)| *at + REPEAT_AFTER);
        let can_sum_up = self.summed_up.is_none_or(|at| at + REPEAT_AFTER <= now);
        let next = match self.waiting.front() {
            _ if self.more > 0 && can_sum_up => (Notice::summary(self.more), None),
            Some(notice) => {
                let said = self.states.get(notice).and_then(|state| state.said.as_ref());
                (notice.clone(), said.and_then(|said| said.uid.clone()))
            }
            None => return repeat.map_or(Next::Idle, Next::Wait),
        };
        let (most, window) = RATE;
        while self.recent.front().is_some_and(|at| *at + window <= now) {
            self.recent.pop_front();
        }
        match self.recent.front() {
            Some(oldest) if self.recent.len() >= most => Next::Wait(*oldest + window),
            _ => Next::Publish(next.0, next.1),
        }
    }

    /// Notes that the object with this uid got the notice, or that there is no such object.
    pub fn settle(&mut self, notice: &Notice, uid: Option<String>, now: Instant) {
        self.recent.push_back(now);
        if notice.is_summary {
            (self.more, self.summed_up) = (0, Some(now));
            return;
        }
        self.waiting.retain(|other| other != notice);
        let state = self.states.entry(notice.clone()).or_default();
        state.is_waiting = false;
        // The object had got the notice before; the age of the Event is unchanged.
        if uid.is_some() && state.said.as_ref().is_some_and(|said| said.uid == uid) {
            return;
        }
        self.note_said(notice.clone(), uid, now);
    }

    fn note_said(&mut self, notice: Notice, uid: Option<String>, now: Instant) {
        let state = self.states.entry(notice.clone()).or_default();
        state.is_waiting = false;
        state.said = Some(LastSent { at: now, uid });
        self.repeats.push_back((now, notice));
    }
}

#[cfg(test)]
mod tests;
