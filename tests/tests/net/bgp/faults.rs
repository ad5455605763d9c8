//! Peers that do not behave: each is named, and none harms the session with another.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::Trial;
use svc_ctl::bgp::message::{Message, Open};
use svc_ctl::bgp::notification::Notification;
use svc_ctl::bgp::stream::Stream;
use svc_ctl::model::name::IpFamily;
use svc_tests::netns::Netns;
use svc_tests::testbed::{Testbed, scenario_unless};
use svc_tests::wait;

use super::lab::{Lab, frr, set};
use super::router::Kind;

/// Time for a complaint: an attempt to connect without an answer takes five seconds.
const LIMIT: Duration = Duration::from_secs(30);

pub fn trial() -> Trial {
    scenario_unless(
        || Ok(Kind::Frr.missing()),
        "a peer with another password, one that speaks nonsense, one of another autonomous system and one that falls silent are named, and a good one is not harmed",
        set,
        act,
    )
}

fn act(testbed: &mut Testbed) -> Result<()> {
    let router = frr(&["password pw-second", "ttl-security hops 1"]);
    let mut lab = Lab::with(testbed, Kind::Frr, &router)?;
    let lan = lab.testbed.world.topology.lan();
    let [nonsense, foreign, silent] = [
        Speaker::start(lan, 1790, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())?,
        Speaker::start(lan, 1791, opened(64_999, 90))?,
        Speaker::start(lan, 1792, [opened(64_500, 3), Message::Keepalive.encode()].concat())?,
    ];
    let file = lab.testbed.world.dir().join("password");
    fs::write(&file, "pw-first\n")?;
    let peer = |name: &str, port: u16| {
        format!("{{name: {name}, address: 192.0.2.254, port: {port}, peerAS: 64500}}")
    };
    let good = format!(
        "{{name: router, address: 192.0.2.254, peerAS: 64500, ttlSecurity: 1, passwordFile: {}}}",
        file.display()
    );
    lab.write_configuration(&format!(
        "{{localAS: 64512, peers: [{good}, {}, {}, {}]}}",
        peer("nonsense", 1790),
        peer("foreign", 1791),
        peer("silent", 1792)
    ))?;
    lab.start(&[1])?;
    lab.write(&["near"], "Cluster")?;
    for (name, reason) in [
        ("router", "a wrong password looks so too"),
        ("nonsense", "connection not synchronized (1/1)"),
        ("foreign", "bad peer AS (2/2): the peer is of AS 64999, expected 64500"),
        ("silent", "hold timer expired (4/0)"),
    ] {
        is_named(&mut lab, name, reason)?;
    }
    // The file is read again before each attempt, so that a new password needs no restart.
    fs::write(&file, "pw-second\n")?;
    wait::until_true("the session with the right password is established", LIMIT, || {
        let peers = lab.lb(1)?["bgp"]["peers"].clone();
        Ok(peers
            .as_array()
            .into_iter()
            .flatten()
            .any(|row| row["name"] == "router" && row["state"] == "established"))
    })?;
    wait::until_true("the router has the route", LIMIT, || Ok(lab.router.table()?.len() == 2))?;
    // Each of the others got a notification as well.
    let lan = lab.testbed.world.topology.lan();
    for (peer, code, subcode) in [(nonsense, 1, 1), (foreign, 2, 2), (silent, 4, 0)] {
        let notifications = peer.end(lan)?;
        let is_right = |n: &Notification| (n.code, n.subcode) == (code, subcode);
        ensure!(
            !notifications.is_empty() && notifications.iter().all(is_right),
            "expected {code}/{subcode}, got {notifications:?}"
        );
    }
    let log = lab.testbed.world.daemon(1)?.log();
    ensure!(!log.contains("pw-"), "the log shows a password");
    Ok(())
}

fn is_named(lab: &mut Lab<'_>, peer: &str, reason: &str) -> Result<()> {
    let object = format!("BGP peer {peer}");
    wait::until_true(&format!("a complaint of {object} says {reason:?}"), LIMIT, || {
        let found = lab.complaints(1, &object)?;
        ensure!(found.iter().any(|text| text.contains(reason)), "{found:?}");
        Ok(true)
    })
}

/// OPEN of this autonomous system.
fn opened(asn: u32, hold: u16) -> Vec<u8> {
    let open = Open {
        asn,
        hold,
        router_id: Ipv4Addr::new(192, 0, 2, 254),
        families: Some([IpFamily::V4, IpFamily::V6].into()),
        has_four_octets: true,
        is_refreshing: false,
        restart: None,
    };
    Message::Open(open).encode()
}

/// A peer that says one thing to each caller, and then listens.
struct Speaker {
    port: u16,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Notification>>>,
}

impl Speaker {
    fn start(lan: &Netns, port: u16, says: Vec<u8>) -> Result<Self> {
        let listener = lan.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen"))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut notifications = Vec::new();
            loop {
                let (stream, _) = listener.accept()?;
                if ends.load(Ordering::Relaxed) {
                    return Ok(notifications);
                }
                notifications.extend(converse(stream, &says)?);
            }
        });
        Ok(Self { port, is_over, thread })
    }

    /// The NOTIFICATION messages that it got.
    fn end(self, lan: &Netns) -> Result<Vec<Notification>> {
        self.is_over.store(true, Ordering::Relaxed);
        lan.within(|| TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).context("end a peer"))?;
        self.thread.join().map_err(|_| anyhow!("a peer panicked"))?
    }
}

/// Speaks to one caller until that says NOTIFICATION or leaves.
fn converse(mut stream: TcpStream, says: &[u8]) -> Result<Option<Notification>> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(says)?;
    let (mut received, mut octets) = (Stream::default(), [0; Stream::ROOM]);
    while let Ok(length @ 1..) = stream.read(&mut octets) {
        received.push(&octets[..length]);
        while let Some(message) = received.next_message().map_err(|fault| anyhow!("{fault:?}"))? {
            if let Message::Notification(notification) = message {
                return Ok(Some(notification));
            }
        }
    }
    Ok(None)
}
