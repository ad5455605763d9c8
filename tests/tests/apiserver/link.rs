//! Faults of the connection between the daemon and a healthy API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_tests::topology::Family;
use svc_tests::wait;

use crate::case::Case;
use crate::fixtures::{Fixtures, case_on};
use crate::objects;
use crate::testbed::Testbed;

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let direct = |sentence, name: &'static str, act: fn(&Testbed, &Case<'_>) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        case_on(sentence, move || Ok(Arc::new(Testbed::direct(name, fixtures.control_plane()?)?)), act)
    };
    let relayed = |sentence, name: &'static str, act: fn(&Testbed, &Case<'_>) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        case_on(sentence, move || Ok(Arc::new(Testbed::relayed(name, fixtures.control_plane()?)?)), act)
    };
    vec![
        direct(
            "an API server unreachable for a minute disturbs no traffic, then all changes come into force",
            "away",
            away,
        ),
        relayed("an idle watch resumes at its last bookmark", "mark", bookmark),
        relayed("a watch that is cut in the middle of an event loses none", "cut", cut_events),
        relayed("a list that is cut is never taken for the whole", "part", cut_lists),
        relayed("a slow API server delays changes and harms nothing", "slow", slow),
    ]
}

/// Services that change while the daemon is disconnected. Their slices are made by hand, so that only the daemon has
/// to catch up.
#[derive(Debug)]
pub struct Changing {
    /// Will get another endpoint.
    kept: [SocketAddr; 2],
}

impl Changing {
    /// `kept` and `gone`, both served.
    pub fn new(testbed: &Testbed, case: &Case<'_>) -> Result<Self> {
        let kept = made(testbed, case, "kept")?;
        let gone = made(testbed, case, "gone")?;
        kept.iter().chain(&gone).try_for_each(|to| testbed.soon_answered_by("near", "pod", *to))?;
        Ok(Self { kept })
    }

    /// Deletes one Service, gives another one a new endpoint, and creates one.
    pub fn change(self, testbed: &Testbed, case: &Case<'_>) -> Result<Changed> {
        case.kubectl(&["delete", "service", "gone"])?;
        testbed.plane().replace(&slices(testbed, case, "kept", "far")?)?;
        Ok(Changed { kept: self.kept, new: made(testbed, case, "new")? })
    }
}

/// A Service with the endpoint `near`.
fn made(testbed: &Testbed, case: &Case<'_>, name: &str) -> Result<[SocketAddr; 2]> {
    testbed.plane().create(&slices(testbed, case, name, "near")?)?;
    case.service(name, &json!({}))
}

/// Slices of a Service with this endpoint.
fn slices(testbed: &Testbed, case: &Case<'_>, service: &str, host: &str) -> Result<[Value; 2]> {
    let addrs = testbed.addrs(host)?;
    Ok([("v4", Family::V4), ("v6", Family::V6)].map(|(suffix, family)| {
        let name = format!("{service}-{suffix}");
        let mut slice = objects::slice(&name, service, addrs.of(family), testbed.port);
        slice["metadata"]["namespace"] = case.namespace.as_str().into();
        slice
    }))
}

/// The Services after [`Changing::change`].
#[derive(Debug)]
pub struct Changed {
    kept: [SocketAddr; 2],
    new: [SocketAddr; 2],
}

impl Changed {
    /// Waits until exactly these changes are in force.
    pub fn soon_in_force(&self, testbed: &Testbed, case: &Case<'_>) -> Result<()> {
        let ([kept4, kept6], [new4, new6]) = (self.kept, self.new);
        let ([near4, near6], [far4, far6]) =
            (case.backends("near", testbed.port)?, case.backends("far", testbed.port)?);
        let rows = [(kept4, far4), (kept6, far6), (new4, near4), (new6, near6)];
        case.soon_table(&rows.map(|(to, backend)| (format!("{to}/TCP"), vec![backend])))?;
        testbed.answered_by("far", "pod", kept4)?;
        testbed.answered_by("near", "pod", new6)
    }
}

fn away(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    let before = testbed.table(&case.namespace)?;
    testbed.block(true)?;
    let start = Instant::now();
    let changed = services.change(testbed, case)?;
    unnoticed_for(testbed, start, Duration::from_secs(60))?;
    let after = testbed.table(&case.namespace)?;
    ensure!(after == before, "the tables have changed: {before:?}, {after:?}");
    testbed.block(false)?;
    changed.soon_in_force(testbed, case)
}

/// Checks that traffic goes on, until the time has passed since `start`.
pub fn unnoticed_for(testbed: &Testbed, start: Instant, time: Duration) -> Result<()> {
    wait::until_true("the time is over", time * 2, || {
        testbed.unnoticed()?;
        Ok(start.elapsed() > time)
    })
}

/// The server sends a bookmark every minute. Our Node does not change, so only a bookmark gives its watch a version
/// later than the Node's own.
fn bookmark(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    unnoticed_for(testbed, Instant::now(), Duration::from_secs(65))?;
    let name = testbed.node_name(1);
    let own: u64 =
        case.get("node", &name)?["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse()?;
    testbed.relay()?.cut_after(0);
    wait::until_true("the watch of the Node goes on after a later version", Duration::from_secs(10), || {
        let requests = testbed.requests()?;
        let last = requests.iter().rfind(|request| request.resource == "nodes");
        let version = last.and_then(|request| request.parameter("resourceVersion")?.parse::<u64>().ok());
        ensure!(version > Some(own), "the Node has version {own}, the last request is {last:?}");
        Ok(true)
    })
}

fn cut_events(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    for round in 0..6 {
        // Every watch that gets these changes is cut within the event.
        testbed.relay()?.cut_after(50 + 150 * round);
        let [v4, v6] = case.service("web", &json!({"selector": {"app": "near"}}))?;
        let [back4, back6] = case.backends("near", testbed.port)?;
        case.soon_table(&[(format!("{v4}/TCP"), vec![back4]), (format!("{v6}/TCP"), vec![back6])])?;
        testbed.relay()?.cut_after(50 + 150 * round);
        case.kubectl(&["delete", "service", "web"])?;
        case.soon_empty()?;
    }
    let cut = testbed.relay()?.cut();
    ensure!(cut >= 12, "only {cut} watches were cut in the middle of something");
    Ok(())
}

fn cut_lists(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    testbed.on_node(|_, daemon| daemon.kill())?;
    let before = testbed.everything()?;
    let changed = services.change(testbed, case)?;
    let relay = testbed.relay()?;
    let mut allowance = 1500;
    relay.allow_each(Some(allowance));
    testbed.on_node(|node, daemon| daemon.start(node))?;
    for _ in 0..5 {
        let cut = relay.cut();
        // All three lists have been cut.
        wait::until_true("lists are cut", Duration::from_secs(20), || Ok(relay.cut() >= cut + 3))?;
        let now = testbed.everything()?;
        ensure!(now == before, "after {allowance} octets the tables have changed: {before:?}, {now:?}");
        allowance = allowance * 8 / 5;
        relay.allow_each(Some(allowance));
    }
    relay.allow_each(None);
    testbed.ready()?;
    changed.soon_in_force(testbed, case)
}

fn slow(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    testbed.relay()?.slow(Duration::from_millis(50));
    let changed = services.change(testbed, case)?;
    changed.soon_in_force(testbed, case)?;
    testbed.on_node(|_, daemon| daemon.kill())?;
    testbed.on_node(|node, daemon| daemon.start(node))?;
    testbed.ready()?;
    changed.soon_in_force(testbed, case)
}
