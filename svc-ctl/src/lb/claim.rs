//! Decides whether this node answers for an address. Pure: the inputs are facts, messages of other hosts and the time;
//! the outputs are actions.
//!
//! A node asks the network first (RFC 5227) and takes an address only if no host answers. It keeps the address while it
//! may, so a node that returns takes no address from its successor.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

/// Milliseconds of a clock that never goes back.
pub type Millis = u64;

/// Probes without an answer before an address is taken, and the time between two.
const PROBES: u32 = 3;
const PROBE_PAUSE: Millis = 100;
/// Announcements at the beginning, a second apart; then one a minute.
const FIRST_ANNOUNCEMENTS: u32 = 6;
const SOON: Millis = 1_000;
const LATER: Millis = 60_000;
/// Interval between the probes by which the next in line asks whether the owner still answers.
const WATCH_PERIOD: Millis = 5_000;
/// Time for which an address is left to an owner that answers and is no candidate any more: its daemon is restarted, or
/// it does not reach the API server. After that its tables are too old to serve by.
const TAKE_OVER_AFTER: Millis = 60_000;
/// Time for which an address is left to a host that is no node.
const CONFLICT_PAUSE: Millis = 30_000;

/// A node that was not at work for this long asks before it announces its addresses again: others may have taken them.
const ASLEEP: Millis = 3_000;
/// Time for which the daemon remembers a foreign host's announcement of an address of this node.
const FOREIGN_FOR: Millis = 300_000;

/// A link-layer address.
pub type Mac = [u8; 6];

/// Six pairs of hexadecimal digits with colons.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Something to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Ask the network for the host that has the address.
    Probe,
    /// Answer from now on.
    Arm,
    /// Announce that this node has it.
    Announce,
    /// Answer no longer.
    Disarm,
}

/// The facts at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub now: Millis,
    pub node: &'a str,
    /// Nodes that may answer.
    pub candidates: &'a BTreeSet<String>,
    /// Nodes whose daemon says that they have no link to this network. They do not answer for the address, so they need
    /// not be asked.
    pub without_link: &'a BTreeSet<String>,
    /// This node has the link, the tables and the endpoints for it.
    pub may_hold: bool,
}

/// Another host that has sent a message with the address as its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OtherHost {
    Node(String),
    Foreign(Mac),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Phase {
    Resting { watch_at: Millis },
    Probing { sent: u32, next: Millis },
    Holding { announced: u32, next: Millis },
    Conflict { with: Mac, until: Millis },
}

/// This node and one address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    address: IpAddr,
    phase: Phase,
    /// The node that answers, as far as is known.
    owner: Option<String>,
    /// A host that is no node, and announced the address while this node had it.
    intruder: Option<(Mac, Millis)>,
    /// Time of the last probe for an owner that is no longer a candidate. Its programs go on answering without its
    /// daemon.
    orphan_asked: Option<Millis>,
    /// Since when the owner is no candidate.
    orphan_since: Option<Millis>,
    /// The last step.
    stepped: Option<Millis>,
    /// Probes to send before the next announcement. The programs yield to a node that answers.
    questions: u32,
    since: Millis,
    why: String,
}

impl Claim {
    pub fn new(address: IpAddr, now: Millis) -> Self {
        let phase = Phase::Resting { watch_at: now + WATCH_PERIOD };
        Self {
            address,
            phase,
            owner: None,
            intruder: None,
            orphan_asked: None,
            orphan_since: None,
            stepped: None,
            questions: 0,
            since: now,
            why: "no host has been seen with it".to_owned(),
        }
    }

    /// The programs answer for it already: an earlier daemon of this node had taken it.
    pub fn adopted(address: IpAddr, node: &str, now: Millis) -> Self {
        let mut claim = Self::new(address, now);
        claim.phase = Phase::Holding { announced: 0, next: now };
        claim.set_owner(Some(node.to_owned()), now, "it was this node's before the daemon started");
        claim
    }

    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Since when the owner is the owner.
    pub const fn since(&self) -> Millis {
        self.since
    }

    /// The reason, as a sentence without a full stop.
    pub fn why(&self) -> &str {
        &self.why
    }

    pub const fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Holding { .. })
    }

    /// The host that is no node and has the address.
    pub const fn conflict(&self) -> Option<Mac> {
        match self.phase {
            Phase::Conflict { with, .. } => Some(with),
            _ => None,
        }
    }

    /// A host that is no node, and announced the address lately while this node had it.
    pub fn intruder(&self, now: Millis) -> Option<Mac> {
        self.intruder.filter(|(_, until)| self.is_held() && now < *until).map(|(mac, _)| mac)
    }

    /// The next time at which there may be something to do.
    pub const fn due(&self) -> Millis {
        match self.phase {
            Phase::Resting { watch_at: at }
            | Phase::Probing { next: at, .. }
            | Phase::Holding { next: at, .. }
            | Phase::Conflict { until: at, .. } => at,
        }
    }

    /// Notes that another host has the address.
    pub fn hear(&mut self, heard: OtherHost, now: Millis) {
        match (heard, &self.phase) {
            // The programs yield to a node.
            (OtherHost::Node(_), Phase::Holding { .. }) => {}
            // A person has to remove the host.
            (OtherHost::Foreign(with), Phase::Holding { .. }) => {
                self.intruder = Some((with, now + FOREIGN_FOR))
            }
            (OtherHost::Node(node), _) => {
                self.phase = Phase::Resting { watch_at: now + WATCH_PERIOD };
                if self.owner.as_ref() != Some(&node) {
                    self.set_owner(Some(node), now, "it answers");
                }
            }
            (OtherHost::Foreign(with), Phase::Probing { .. } | Phase::Conflict { .. }) => {
                self.phase = Phase::Conflict { with, until: now + CONFLICT_PAUSE };
                self.set_owner(None, now, "a host that is no node of the cluster has it");
            }
            (OtherHost::Foreign(_), Phase::Resting { .. }) => {}
        }
    }

    /// Another node announced the address and the programs have yielded to it.
    pub fn yielded(&mut self, to: Option<String>, now: Millis) {
        self.phase = Phase::Resting { watch_at: now + SOON };
        self.set_owner(to, now, "it announced the address and this node yielded");
    }

    /// The actions that are due now.
    pub fn step(&mut self, situation: &Situation<'_>) -> Vec<Action> {
        let now = situation.now;
        let has_slept = self.stepped.replace(now).is_some_and(|at| now > at + ASLEEP);
        if has_slept && self.is_held() {
            self.phase = Phase::Holding { announced: 0, next: now };
            self.questions = PROBES;
        }
        let chosen = choose(self.address, self.owner.as_deref(), situation.candidates);
        let is_chosen = situation.may_hold && chosen == Some(situation.node);
        let is_orphan = self.owner.as_ref().is_some_and(|owner| !situation.candidates.contains(owner));
        if is_orphan {
            self.orphan_since.get_or_insert(now);
        } else {
            (self.orphan_asked, self.orphan_since) = (None, None);
        }
        let is_overdue = self.orphan_since.is_some_and(|since| now >= since + TAKE_OVER_AFTER);
        let has_no_link = self.owner.as_ref().is_some_and(|owner| situation.without_link.contains(owner));
        let is_asked = self.orphan_asked.is_some_and(|at| now < at + WATCH_PERIOD);
        match self.phase {
            Phase::Holding { announced, next } => {
                if !situation.may_hold {
                    self.phase = Phase::Resting { watch_at: now + WATCH_PERIOD };
                    self.set_owner(
                        None,
                        now,
                        "this node gave it up: its link, its tables or its endpoints are gone",
                    );
                    return vec![Action::Disarm];
                }
                if now < next {
                    return Vec::new();
                }
                if self.questions > 0 {
                    self.questions -= 1;
                    self.phase = Phase::Holding { announced, next: now + PROBE_PAUSE };
                    return vec![Action::Probe];
                }
                let announced = announced.saturating_add(1);
                let pause = if announced < FIRST_ANNOUNCEMENTS { SOON } else { LATER };
                self.phase = Phase::Holding { announced, next: now + pause };
                vec![Action::Announce]
            }
            Phase::Resting { .. } | Phase::Probing { .. } if is_chosen && has_no_link => {
                let other = self.owner.clone().unwrap_or_default();
                self.take(situation, &format!("{other} has lost its link"))
            }
            Phase::Probing { .. } if !situation.may_hold => {
                self.phase = Phase::Resting { watch_at: now + WATCH_PERIOD };
                Vec::new()
            }
            Phase::Probing { next, .. } if now < next => Vec::new(),
            Phase::Probing { sent, .. } if sent < PROBES => {
                self.phase = Phase::Probing { sent: sent + 1, next: now + PROBE_PAUSE };
                vec![Action::Probe]
            }
            Phase::Probing { .. } => {
                let why = match &self.owner {
                    Some(other) => format!("{other} answers no longer"),
                    None => "no host answered for it".to_owned(),
                };
                self.take(situation, &why)
            }
            // The programs of the other node yield to the announcement.
            Phase::Resting { .. } if is_chosen && is_overdue => {
                let other = self.owner.clone().unwrap_or_default();
                self.take(situation, &format!("{other} answers, and its daemon has been away for a minute"))
            }
            Phase::Resting { .. } if is_chosen && !is_asked => {
                self.orphan_asked = is_orphan.then_some(now);
                self.probe(now)
            }
            Phase::Resting { watch_at } if now >= watch_at => {
                let others: BTreeSet<String> = situation
                    .candidates
                    .iter()
                    .filter(|node| Some(*node) != self.owner.as_ref())
                    .cloned()
                    .collect();
                let next_in_line = choose(
                    self.address,
                    None,
                    if self.owner.is_some() { &others } else { situation.candidates },
                );
                if situation.may_hold && (next_in_line == Some(situation.node) || self.owner.is_none()) {
                    return self.probe(now);
                }
                self.phase = Phase::Resting { watch_at: now + WATCH_PERIOD };
                Vec::new()
            }
            Phase::Conflict { until, .. } if now >= until && situation.may_hold => self.probe(now),
            Phase::Resting { .. } | Phase::Conflict { .. } => Vec::new(),
        }
    }

    fn take(&mut self, situation: &Situation<'_>, why: &str) -> Vec<Action> {
        self.set_owner(Some(situation.node.to_owned()), situation.now, why);
        self.phase = Phase::Holding { announced: 1, next: situation.now + SOON };
        self.questions = 0;
        vec![Action::Arm, Action::Announce]
    }

    fn probe(&mut self, now: Millis) -> Vec<Action> {
        self.phase = Phase::Probing { sent: 1, next: now + PROBE_PAUSE };
        vec![Action::Probe]
    }

    fn set_owner(&mut self, owner: Option<String>, now: Millis, why: &str) {
        (self.owner, self.since) = (owner, now);
        why.clone_into(&mut self.why);
    }
}

/// The node that should answer: the owner while it is a candidate, else the first of all in an order that each address has
/// of its own (rendezvous hashing).
pub fn choose<'a>(address: IpAddr, owner: Option<&str>, candidates: &'a BTreeSet<String>) -> Option<&'a str> {
    let rank = |node: &&String| Sha256::digest(format!("{address} {node}"));
    let owner = candidates.iter().find(|node| Some(node.as_str()) == owner);
    owner.or_else(|| candidates.iter().max_by_key(rank)).map(String::as_str)
}

#[cfg(test)]
mod tests;
