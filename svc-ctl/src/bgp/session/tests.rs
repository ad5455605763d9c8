//! Sessions over a clock that the tests move.

use proptest::prelude::*;

use super::*;
use crate::bgp::route::Attributes;
use crate::bgp::settings::BgpSettings;
use crate::lb::pool::Pools;

const OWN: &str = "192.0.2.1";

/// A session over a clock that the test moves, and all that it did.
struct Lab {
    session: Session,
    now: Instant,
}

impl Lab {
    fn new(peer: &str) -> Self {
        let section = format!("{{localAS: 64512, peers: [{{name: r, address: 192.0.2.254, {peer}}}]}}");
        let (settings, problems) =
            BgpSettings::read(serde_yaml_ng::from_str(&section).unwrap(), &Pools::default());
        assert_eq!(problems, []);
        let peer = &settings.peers[0];
        let options = SessionOptions {
            local_as: peer.local_as,
            peer_as: peer.peer_as,
            router_id: OWN.parse().unwrap(),
            times: peer.times,
            connect_retry: peer.connect_retry,
            restart_time: peer.restart_time,
            next_hops: NextHops { v6: Some("2001:db8::1".parse().unwrap()), ..NextHops::default() },
            has_password: peer.password.is_some(),
        };
        let now = Instant::now();
        Self { session: Session::new(options, now, 7), now }
    }

    fn feed(&mut self, event: Event) -> Vec<String> {
        let actions = self.session.handle(event, self.now);
        actions.iter().map(shown).collect()
    }

    fn receive(&mut self, message: Message) -> Vec<String> {
        self.feed(Event::Received(message))
    }

    /// Lets the time pass to the next deadline.
    fn wait(&mut self) -> Vec<String> {
        self.now = self.session.deadline().unwrap();
        self.feed(Event::Time)
    }

    fn dial(&mut self) {
        assert_eq!(self.wait(), ["connect"]);
        assert_eq!(self.feed(Event::Connected(OWN.parse().unwrap())), ["OPEN"]);
    }

    fn establish(&mut self, open: Open) -> Vec<String> {
        self.dial();
        assert_eq!(self.receive(Message::Open(open)), ["KEEPALIVE"]);
        self.receive(Message::Keepalive)
    }

    fn error(&self) -> &str {
        self.session.last_error().unwrap_or_default()
    }

    fn routes(&mut self, prefixes: &[&str]) -> Vec<String> {
        let routes = prefixes.iter().map(|net| (net.parse().unwrap(), Attributes::default())).collect();
        self.feed(Event::Routes(routes))
    }
}

/// An action as text; an UPDATE by its length, which tells the kinds apart.
fn shown(action: &Action) -> String {
    match action {
        Action::Connect => "connect".to_owned(),
        Action::Close => "close".to_owned(),
        Action::Send(octets) => match Message::decode(octets).unwrap().unwrap().0 {
            Message::Open(_) => "OPEN".to_owned(),
            Message::Update => format!("UPDATE {}", octets.len()),
            Message::Notification(n) => format!("NOTIFICATION {}/{}", n.code, n.subcode),
            Message::Keepalive => "KEEPALIVE".to_owned(),
            Message::RouteRefresh(_) => "ROUTE-REFRESH".to_owned(),
        },
    }
}

fn open(asn: u32, hold: u16) -> Open {
    Open {
        asn,
        hold,
        router_id: "192.0.2.254".parse().unwrap(),
        families: Some([IpFamily::V4, IpFamily::V6].into()),
        has_four_octets: true,
        is_refreshing: true,
        restart: None,
    }
}

/// Octets of the messages for one IPv4 host route of an external session, its withdrawal, and the end of both families.
const ANNOUNCED: &str = "UPDATE 48";
const WITHDRAWN: &str = "UPDATE 28";
const ENDS: [&str; 2] = ["UPDATE 23", "UPDATE 29"];

#[test]
fn a_session_begins_with_all_routes_and_their_end_and_then_has_changes_only() {
    let mut lab = Lab::new("peerAS: 64500");
    assert_eq!(lab.routes(&["203.0.113.1/32"]), Vec::<String>::new());
    assert_eq!(lab.establish(open(64_500, 90)), [&[ANNOUNCED], &ENDS[..]].concat());
    assert_eq!(lab.session.state(), State::Established);
    assert_eq!(lab.routes(&["203.0.113.1/32"]), Vec::<String>::new());
    assert_eq!(lab.routes(&["203.0.113.2/32"]), [WITHDRAWN, ANNOUNCED]);
    assert_eq!(lab.routes(&[]), [WITHDRAWN]);
    assert_eq!(lab.session.announced().len(), 0);
}

#[test]
fn a_peer_that_asks_gets_the_routes_of_the_family_again() {
    let mut lab = Lab::new("peerAS: 64500");
    lab.routes(&["203.0.113.1/32", "2001:db8:64::1/128"]);
    assert_eq!(lab.establish(open(64_500, 90)), [&[ANNOUNCED, "UPDATE 77"], &ENDS[..]].concat());
    assert_eq!(lab.receive(Message::RouteRefresh(Some(IpFamily::V4))), [ANNOUNCED]);
    assert_eq!(lab.receive(Message::RouteRefresh(None)), Vec::<String>::new());
}

#[test]
fn an_open_that_does_not_fit_is_refused_and_named() {
    let no_families = Open { families: Some([].into()), ..open(64_500, 90) };
    let same_id = Open { router_id: OWN.parse().unwrap(), ..open(64_512, 90) };
    for (peer, open, expected, error) in [
        ("peerAS: 64500", open(64_501, 90), "NOTIFICATION 2/2", "the peer is of AS 64501, expected 64500"),
        ("peerAS: external", open(64_512, 90), "NOTIFICATION 2/2", "expected any but 64512 (external)"),
        ("peerAS: internal", open(64_500, 90), "NOTIFICATION 2/2", "expected 64512 (internal)"),
        ("peerAS: internal", same_id, "NOTIFICATION 2/3", "both sides have the router ID 192.0.2.1"),
        ("peerAS: 64500", no_families, "KEEPALIVE", ""),
        ("peerAS: external", open(64_500, 0), "KEEPALIVE", ""),
    ] {
        let mut lab = Lab::new(peer);
        lab.dial();
        let actions = lab.receive(Message::Open(open));
        assert_eq!(actions[0], expected, "{peer}");
        assert!(lab.error().contains(error), "{}", lab.error());
    }
}

#[test]
fn routes_that_a_peer_cannot_have_are_named() {
    let mut lab = Lab::new("peerAS: 64500");
    lab.routes(&["203.0.113.1/32", "2001:db8:64::1/128"]);
    let old = Open { families: None, ..open(64_500, 90) };
    assert_eq!(lab.establish(old), [ANNOUNCED, ENDS[0]]);
    let text = "1 IPv6 routes are not announced: the peer does not have the family";
    assert_eq!(lab.session.shortcoming().as_deref(), Some(text));
}

#[test]
fn a_message_out_of_turn_is_refused_by_the_state() {
    for (state, message, expected) in [
        (State::OpenSent, Message::Keepalive, "NOTIFICATION 5/1"),
        (State::OpenSent, Message::Update, "NOTIFICATION 5/1"),
        (State::OpenConfirm, Message::Update, "NOTIFICATION 5/2"),
        (State::OpenConfirm, Message::Open(open(64_500, 90)), "NOTIFICATION 5/2"),
        (State::Established, Message::Open(open(64_500, 90)), "NOTIFICATION 5/3"),
    ] {
        let mut lab = Lab::new("peerAS: 64500");
        match state {
            State::OpenSent => lab.dial(),
            State::OpenConfirm => {
                lab.dial();
                lab.receive(Message::Open(open(64_500, 90)));
            }
            _ => drop(lab.establish(open(64_500, 90))),
        }
        assert_eq!(lab.session.state(), state);
        assert_eq!(lab.receive(message), [expected, "close"]);
        assert_eq!(lab.session.state(), State::Idle);
    }
}

#[test]
fn a_silent_peer_is_left_when_the_hold_time_of_both_is_over() {
    for (own, other, hold) in [(90, 90, 90), (90, 9, 9), (9, 90, 9)] {
        let mut lab = Lab::new(&format!("peerAS: 64500, holdTime: {own}"));
        lab.establish(open(64_500, other));
        let began = lab.now;
        let mut keepalives = 0;
        loop {
            match lab.wait().as_slice() {
                [keepalive] if keepalive == "KEEPALIVE" => keepalives += 1,
                [notification, close] => {
                    assert_eq!([notification, close], ["NOTIFICATION 4/0", "close"]);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(lab.now - began, Duration::from_secs(hold), "{own} and {other}");
        assert_eq!(keepalives, 2, "{own} and {other}");
        assert_eq!(lab.error(), "this side says: hold timer expired (4/0)");
    }
}

#[test]
fn each_message_of_the_peer_begins_the_hold_time_anew_and_none_is_needed_without_one() {
    let mut lab = Lab::new("peerAS: 64500, holdTime: 9");
    lab.establish(open(64_500, 9));
    for message in [Message::Keepalive, Message::Update, Message::RouteRefresh(None)] {
        lab.now += Duration::from_secs(8);
        lab.receive(message);
        assert!(lab.session.until.unwrap() > lab.now);
    }
    let mut lab = Lab::new("peerAS: 64500");
    lab.establish(open(64_500, 0));
    assert_eq!(lab.session.deadline(), None);
}

#[test]
fn attempts_come_later_and_later_with_chance_and_at_once_after_a_session() {
    let mut lab = Lab::new("peerAS: 64500, connectRetry: 5");
    let mut pauses = Vec::new();
    for _ in 0..5 {
        assert_eq!(lab.wait(), ["connect"]);
        assert_eq!(lab.feed(Event::Failed("connecting: refused".to_owned())), ["close"]);
        pauses.push((lab.session.deadline().unwrap() - lab.now).as_secs_f64());
    }
    for (pause, most) in pauses.iter().zip([1.0, 2.0, 4.0, 5.0, 5.0]) {
        assert!((0.75 * most..=most).contains(pause), "{pauses:?}");
    }
    lab.establish(open(64_500, 90));
    lab.feed(Event::Failed("the peer closed the connection".to_owned()));
    assert!(lab.session.deadline().unwrap() - lab.now <= FIRST_PAUSE);
}

#[test]
fn a_connection_without_an_answer_is_given_up_and_a_password_named_as_a_cause() {
    for (password, cause) in [(", password: a", "a wrong password looks so too"), ("", "wants a password")] {
        let mut lab = Lab::new(&format!("peerAS: 64500{password}"));
        assert_eq!(lab.wait(), ["connect"]);
        let began = lab.now;
        assert_eq!(lab.wait(), ["close"]);
        assert_eq!(lab.now - began, CONNECT_LIMIT);
        assert!(lab.error().contains(cause), "{}", lab.error());
    }
}

#[test]
fn nonsense_and_a_notification_end_the_session_and_are_named() {
    let mut lab = Lab::new("peerAS: 64500");
    lab.dial();
    assert_eq!(lab.feed(Event::Malformed(Fault::NotSynchronized)), ["NOTIFICATION 1/1", "close"]);
    assert_eq!(lab.error(), "this side says: message header error: connection not synchronized (1/1)");
    lab.establish(open(64_500, 90));
    let shutdown = Notification { code: 6, subcode: 2, data: Vec::new() };
    assert_eq!(lab.receive(Message::Notification(shutdown)), ["close"]);
    assert_eq!(lab.error(), "the peer says: cease: administrative shutdown (6/2)");
}

#[test]
fn the_first_session_says_that_the_daemon_has_restarted_and_that_its_routes_were_in_use() {
    let mut lab = Lab::new("peerAS: 64500, gracefulRestartTime: 40");
    let restart = lab.session.open().restart.unwrap();
    assert_eq!((restart.has_restarted, restart.time), (true, 40));
    assert_eq!(restart.families, [(IpFamily::V4, true), (IpFamily::V6, true)].into());
    lab.establish(open(64_500, 90));
    assert!(!lab.session.open().restart.unwrap().has_restarted);
    assert_eq!(Lab::new("peerAS: 64500, gracefulRestartTime: 0").session.open().restart, None);
}

#[test]
fn an_ended_session_says_why_and_does_nothing_more() {
    let mut lab = Lab::new("peerAS: 64500");
    lab.establish(open(64_500, 90));
    assert_eq!(lab.feed(Event::End(Fault::Deconfigured)), ["NOTIFICATION 6/3", "close"]);
    assert_eq!(lab.session.deadline(), None);
    assert_eq!(lab.routes(&["203.0.113.1/32"]), Vec::<String>::new());
}

fn events() -> impl Strategy<Value = Event> {
    let message = prop_oneof![
        Just(Message::Keepalive),
        Just(Message::Update),
        Just(Message::RouteRefresh(Some(IpFamily::V6))),
        Just(Message::Notification(Fault::Deconfigured.into())),
        prop_oneof![Just(64_500), Just(64_512)].prop_map(|asn| Message::Open(open(asn, 9))),
    ];
    prop_oneof![
        4 => Just(Event::Time),
        4 => message.prop_map(Event::Received),
        2 => Just(Event::Connected(OWN.parse().unwrap())),
        1 => Just(Event::Failed("reading: reset".to_owned())),
        1 => Just(Event::Malformed(Fault::NotSynchronized)),
        2 => proptest::collection::btree_set(0..4_u8, 0..4).prop_map(|all| {
            let route = |n| (format!("203.0.113.{n}/32").parse().unwrap(), Attributes::default());
            Event::Routes(all.into_iter().map(route).collect())
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_session_tries_again_and_says_nothing_without_a_connection(all in proptest::collection::vec(events(), 1..60)) {
        let mut lab = Lab::new("peerAS: 64500");
        for event in all {
            if event == Event::Time {
                lab.now = lab.session.deadline().unwrap();
            }
            let was = lab.session.state();
            let actions = lab.session.handle(event, lab.now);
            let says = actions.iter().any(|action| matches!(action, Action::Send(_)));
            prop_assert!(!says || !matches!(was, State::Idle) && (was != State::Connecting || lab.session.state() == State::OpenSent));
            let is_closed = actions.contains(&Action::Close);
            prop_assert_eq!(is_closed, was != State::Idle && lab.session.state() == State::Idle);
            prop_assert!(lab.session.deadline().is_some());
            if lab.session.state() != State::Established {
                prop_assert!(lab.session.announced().is_empty());
            } else {
                prop_assert_eq!(lab.session.announced(), &lab.session.wanted);
            }
        }
    }
}
