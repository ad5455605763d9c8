//! The state machine of one session (RFC 4271, section 8): events and the time in, octets and connections out. Pure.
//!
//! Only this side dials, so no two connections collide. The states Connect and Active of the RFC are one here.

mod negotiated;
mod outgoing;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::negotiated::Negotiated;
use self::outgoing::Outgoing;
use super::message::{Message, Open, Restart};
use super::notification::{Fault, Notification};
use super::route::{NextHops, Routes};
use super::settings::{HoldTime, PeerAs};
use crate::model::name::IpFamily;

/// Time for TCP to connect. A wrong password is silence.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time for the peer's OPEN.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Properties of a session that its configuration gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionOptions {
    pub local_as: u32,
    pub peer_as: PeerAs,
    pub router_id: Ipv4Addr,
    pub times: HoldTime,
    /// The longest pause between two attempts.
    pub connect_retry: Duration,
    /// Seconds; 0: no graceful restart.
    pub restart_time: u16,
    /// The node's addresses.
    pub next_hops: NextHops,
    /// Text for a connection without an answer.
    pub has_password: bool,
}

/// Something that has happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// TCP has connected, from this address.
    Connected(std::net::IpAddr),
    /// TCP could not connect, or the connection has ended.
    Failed(String),
    Received(Message),
    /// Octets that are no message.
    Malformed(Fault),
    /// All routes that the peer shall have.
    Routes(Routes),
    /// The deadline has come.
    Time,
    /// The session is over, and the peer forgets its routes.
    End(Fault),
}

/// Something to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    Connect,
    Send(Vec<u8>),
    /// Closes the connection after everything is sent.
    Close,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    #[default]
    Idle,
    Connecting,
    OpenSent,
    OpenConfirm,
    Established,
}

impl State {
    /// Its name in tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::OpenSent => "open sent",
            Self::OpenConfirm => "open confirmed",
            Self::Established => "established",
        }
    }
}

/// A session with a peer.
#[derive(Debug)]
pub struct Session {
    options: SessionOptions,
    state: State,
    /// When the state began.
    since: Instant,
    /// The next attempt, or the end of this state.
    until: Option<Instant>,
    keepalive_at: Option<Instant>,
    /// This daemon has not had a session since it started.
    has_restarted: bool,
    failures: u32,
    last_error: Option<String>,
    wanted: Routes,
    local: Option<std::net::IpAddr>,
    negotiated: Option<Negotiated>,
    outgoing: Outgoing,
    random: fastrand::Rng,
    is_over: bool,
}

impl Session {
    /// The first attempt is at once.
    pub fn new(options: SessionOptions, now: Instant, seed: u64) -> Self {
        Self {
            options,
            state: State::Idle,
            since: now,
            until: Some(now),
            keepalive_at: None,
            has_restarted: true,
            failures: 0,
            last_error: None,
            wanted: Routes::new(),
            local: None,
            negotiated: None,
            outgoing: Outgoing::default(),
            random: fastrand::Rng::with_seed(seed),
            is_over: false,
        }
    }

    pub const fn state(&self) -> State {
        self.state
    }

    pub const fn since(&self) -> Instant {
        self.since
    }

    /// The error that ended the last connection.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Routes that the peer has of this node.
    pub fn announced(&self) -> &Routes {
        self.outgoing.sent()
    }

    /// UPDATE messages since the start.
    pub const fn updates(&self) -> u64 {
        self.outgoing.updates()
    }

    /// Why the peer does not get all routes, if it does not.
    pub fn shortcoming(&self) -> Option<String> {
        self.negotiated.as_ref().and_then(|negotiated| negotiated.shortcoming(&self.wanted))
    }

    /// When [`Event::Time`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        [self.until, self.keepalive_at].into_iter().flatten().min()
    }

    /// The longest time for which the peer may not read: as long as a peer may be silent (RFC 9687).
    pub fn send_limit(&self) -> Duration {
        let hold = self.negotiated.as_ref().map_or(self.options.times.hold, |negotiated| negotiated.hold);
        if hold.is_zero() { OPEN_LIMIT } else { hold }
    }

    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            _ if self.is_over => Vec::new(),
            Event::Connected(local) if self.state == State::Connecting => {
                self.local = Some(local);
                self.enter(State::OpenSent, now, Some(OPEN_LIMIT));
                vec![send(&Message::Open(self.open()))]
            }
            Event::Connected(_) => Vec::new(),
            Event::Failed(reason) => self.fail(reason, now),
            Event::Malformed(fault) => self.refuse(fault, now),
            Event::Received(message) => self.receive(message, now),
            Event::Routes(routes) => {
                self.wanted = routes;
                self.send_routes()
            }
            Event::Time => self.pass_time(now),
            Event::End(fault) => {
                let actions = match self.state {
                    State::Idle => Vec::new(),
                    State::Connecting => vec![Action::Close],
                    State::OpenSent | State::OpenConfirm | State::Established => {
                        vec![send(&Message::Notification(fault.into())), Action::Close]
                    }
                };
                self.fail("it was ended here".to_owned(), now);
                (self.is_over, self.until) = (true, None);
                actions
            }
        }
    }

    fn open(&self) -> Open {
        let families = [IpFamily::V4, IpFamily::V6];
        let restart = (self.options.restart_time > 0).then(|| Restart {
            has_restarted: self.has_restarted,
            time: self.options.restart_time,
            // The kernel's tables serve while the daemon does not run. A session begins only after they are complete.
            families: families.map(|family| (family, true)).into(),
        });
        Open {
            asn: self.options.local_as,
            hold: u16::try_from(self.options.times.hold.as_secs()).unwrap_or(u16::MAX),
            router_id: self.options.router_id,
            families: Some(families.into()),
            has_four_octets: true,
            is_refreshing: true,
            restart,
        }
    }

    fn receive(&mut self, message: Message, now: Instant) -> Vec<Action> {
        match (self.state, message) {
            (State::Idle | State::Connecting, _) => Vec::new(),
            (_, Message::Notification(notification)) => {
                self.fail(format!("the peer says: {notification}"), now)
            }
            (State::OpenSent, Message::Open(open)) => {
                let local = self.local.unwrap_or(self.options.router_id.into());
                let hops = self.options.next_hops.of_session(local);
                match Negotiated::new(&self.options, hops, &open) {
                    Err((fault, reason)) => self.refuse_because(fault, &reason, now),
                    Ok(negotiated) => {
                        let hold = negotiated.hold;
                        self.keepalive_at = negotiated.keepalive.map(|pause| now + pause);
                        self.negotiated = Some(negotiated);
                        // A peer that wants no hold time still has to confirm.
                        self.enter(
                            State::OpenConfirm,
                            now,
                            Some(if hold.is_zero() { OPEN_LIMIT } else { hold }),
                        );
                        vec![send(&Message::Keepalive)]
                    }
                }
            }
            (State::OpenConfirm, Message::Keepalive) => {
                self.enter(State::Established, now, None);
                self.reset_hold(now);
                (self.failures, self.has_restarted) = (0, false);
                let mut actions = self.send_routes();
                let families = self.negotiated.iter().flat_map(|negotiated| negotiated.families.clone());
                actions.extend(families.map(|family| Action::Send(self.outgoing.end_of_rib(family))));
                actions
            }
            (State::Established, Message::Keepalive | Message::Update) => {
                self.reset_hold(now);
                Vec::new()
            }
            (State::Established, Message::RouteRefresh(family)) => {
                self.reset_hold(now);
                family.into_iter().for_each(|family| self.outgoing.forget(family));
                self.send_routes()
            }
            (State::OpenSent, _) => self.refuse(Fault::State(1), now),
            (State::OpenConfirm, _) => self.refuse(Fault::State(2), now),
            (State::Established, Message::Open(_)) => self.refuse(Fault::State(3), now),
        }
    }

    fn send_routes(&mut self) -> Vec<Action> {
        match (&self.negotiated, self.state) {
            (Some(negotiated), State::Established) => {
                let messages = self.outgoing.bring_to(&self.wanted, negotiated);
                messages.into_iter().map(Action::Send).collect()
            }
            _ => Vec::new(),
        }
    }

    fn pass_time(&mut self, now: Instant) -> Vec<Action> {
        if self.until.is_some_and(|until| now >= until) {
            return match self.state {
                State::Idle => {
                    self.enter(State::Connecting, now, Some(CONNECT_LIMIT));
                    vec![Action::Connect]
                }
                State::Connecting => {
                    let hint = match self.options.has_password {
                        true => "; a wrong password looks so too",
                        false => "; a peer that wants a password looks so too",
                    };
                    let reason = format!("no answer for {} s{hint}", CONNECT_LIMIT.as_secs());
                    self.fail(reason, now)
                }
                State::OpenSent | State::OpenConfirm | State::Established => {
                    self.refuse(Fault::HoldTimerExpired, now)
                }
            };
        }
        if self.keepalive_at.is_some_and(|at| now >= at) {
            self.keepalive_at = self.negotiated.as_ref().and_then(|n| n.keepalive).map(|pause| now + pause);
            return vec![send(&Message::Keepalive)];
        }
        Vec::new()
    }

    fn reset_hold(&mut self, now: Instant) {
        let hold = self.negotiated.as_ref().map(|negotiated| negotiated.hold);
        self.until = hold.filter(|hold| !hold.is_zero()).map(|hold| now + hold);
    }

    fn enter(&mut self, state: State, now: Instant, limit: Option<Duration>) {
        (self.state, self.since, self.until) = (state, now, limit.map(|limit| now + limit));
    }

    fn refuse(&mut self, fault: Fault, now: Instant) -> Vec<Action> {
        self.refuse_because(fault, "", now)
    }

    /// Names the fault to the peer and closes.
    fn refuse_because(&mut self, fault: Fault, reason: &str, now: Instant) -> Vec<Action> {
        if matches!(self.state, State::Idle | State::Connecting) {
            return Vec::new();
        }
        let notification = Notification::from(fault);
        let said = send(&Message::Notification(notification.clone()));
        let reason = match reason {
            "" => format!("this side says: {notification}"),
            reason => format!("this side says: {notification}: {reason}"),
        };
        [vec![said], self.fail(reason, now)].concat()
    }

    fn fail(&mut self, reason: String, now: Instant) -> Vec<Action> {
        if self.state == State::Idle {
            return Vec::new();
        }
        self.last_error = Some(reason);
        (self.negotiated, self.local, self.keepalive_at) = (None, None, None);
        self.outgoing.forget_all();
        let pause = self.pause();
        self.failures = self.failures.saturating_add(1);
        self.enter(State::Idle, now, Some(pause));
        vec![Action::Close]
    }

    /// Doubles with each failure in a row, up to the limit. The share of chance keeps the nodes from dialling a router in step.
    fn pause(&mut self) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        doubled.min(self.options.connect_retry).mul_f64(0.75 + 0.25 * self.random.f64())
    }
}

fn send(message: &Message) -> Action {
    Action::Send(message.encode())
}

#[cfg(test)]
mod tests;
