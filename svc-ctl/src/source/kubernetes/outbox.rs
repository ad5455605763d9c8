//! What goes back to the API server: complaints as Events on the Service or the Node that they are about.
//!
//! [`Outbox`] decides what to say and when. [`run`] says it, and says it again until the API server has taken it.
//! Everything that is said or asked counts: ten times a minute at most. Complaints wait in their order; of more than a
//! hundred only the number is said. An Event ends after an hour, so a complaint that stands is said again before.

mod event;
mod notice;
mod publish;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;

use self::notice::Notice;
pub use self::publish::run;
use crate::model::complaint::Complaint;
use crate::observe::ledger::Complaints;

/// So much is said at most, in this time.
const RATE: (usize, Duration) = (10, Duration::from_secs(60));
/// So many wait at most; the others are summed up.
const MAX_WAITING: usize = 100;
/// A complaint that stands is said again after this time: the API server forgets Events after an hour.
const REPEAT_AFTER: Duration = Duration::from_secs(55 * 60);

/// What has been said, what waits, and how fast.
#[derive(Debug, Default)]
pub struct Outbox {
    complaints: Complaints,
    states: BTreeMap<Notice, State>,
    waiting: VecDeque<Notice>,
    /// What was said, in the order of time.
    repeats: VecDeque<(Instant, Notice)>,
    /// When the last were said, oldest first.
    recent: VecDeque<Instant>,
    /// Notices that found no place to wait and are not summed up yet.
    more: usize,
    summed_up: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    /// How many complaints say so now.
    standing: usize,
    is_waiting: bool,
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    /// The object of which it was said. Another object of the same name has not heard it.
    uid: Option<String>,
}

/// What to do now.
#[derive(Debug, Eq, PartialEq)]
pub enum Next {
    /// Say this, but not to an object that has heard it: the one with this uid.
    Say(Notice, Option<String>),
    /// Nothing may be said or said again before.
    Wait(Instant),
    Idle,
}

impl Outbox {
    /// Takes what is wrong now. Costs what has changed.
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

    /// Lets a notice wait if it stands and was not said lately to this object; forgets what is over and was not said.
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

    /// Time goes on: what may have expired waits again, or is forgotten.
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

    /// What to do now. The same answer until [`Self::settle`].
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
            _ => Next::Say(next.0, next.1),
        }
    }

    /// It was said to the object with this uid, or there is nobody to hear it.
    pub fn settle(&mut self, notice: &Notice, uid: Option<String>, now: Instant) {
        self.recent.push_back(now);
        if notice.is_summary {
            (self.more, self.summed_up) = (0, Some(now));
            return;
        }
        self.waiting.retain(|other| other != notice);
        let state = self.states.entry(notice.clone()).or_default();
        state.is_waiting = false;
        // It had heard it before; the Event is as old as it was.
        if uid.is_some() && state.said.as_ref().is_some_and(|said| said.uid == uid) {
            return;
        }
        self.note_said(notice.clone(), uid, now);
    }

    fn note_said(&mut self, notice: Notice, uid: Option<String>, now: Instant) {
        let state = self.states.entry(notice.clone()).or_default();
        state.is_waiting = false;
        state.said = Some(Said { at: now, uid });
        self.repeats.push_back((now, notice));
    }
}

#[cfg(test)]
mod tests;
