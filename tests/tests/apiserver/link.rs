//! What can happen between the daemon and an API server that is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_tests::topology::Family;
use svc_tests::wait;

use crate::case::Case;
use crate::objects;
use crate::stage::Stage;
use crate::theatre::{Theatre, case_on};

pub fn trials(theatre: &Arc<Theatre>) -> Vec<Trial> {
    let direct = |sentence, name: &'static str, act: fn(&Stage, &Case<'_>) -> Result<()>| {
        let theatre = Arc::clone(theatre);
        case_on(sentence, move || Ok(Arc::new(Stage::direct(name, theatre.calm()?)?)), act)
    };
    let relayed = |sentence, name: &'static str, act: fn(&Stage, &Case<'_>) -> Result<()>| {
        let theatre = Arc::clone(theatre);
        case_on(sentence, move || Ok(Arc::new(Stage::relayed(name, theatre.calm()?)?)), act)
    };
    vec![
        direct(
            "an API server out of reach for a minute is missed by nobody, then all is caught up",
            "away",
            away,
        ),
        relayed("a quiet watch goes on where its last bookmark was", "mark", bookmark),
        relayed("a watch that is cut in the middle of an event loses none", "cut", cut_events),
        relayed("a list that is cut is never taken for the whole", "part", cut_lists),
        relayed("a slow API server delays changes and harms nothing", "slow", slow),
    ]
}

/// Services before a time in which the daemon is told nothing. Their slices are made by hand: nobody but the daemon has
/// to catch up.
#[derive(Debug)]
pub struct Changing {
    /// Will have another endpoint.
    kept: [SocketAddr; 2],
}

impl Changing {
    /// `kept` and `gone`, both served.
    pub fn new(stage: &Stage, case: &Case<'_>) -> Result<Self> {
        let kept = made(stage, case, "kept")?;
        let gone = made(stage, case, "gone")?;
        kept.iter().chain(&gone).try_for_each(|to| stage.soon_answered_by("near", "pod", *to))?;
        Ok(Self { kept })
    }

    /// One goes, one has another endpoint, one is new.
    pub fn change(self, stage: &Stage, case: &Case<'_>) -> Result<Changed> {
        case.kubectl(&["delete", "service", "gone"])?;
        stage.plane().replace(&slices(stage, case, "kept", "far")?)?;
        Ok(Changed { kept: self.kept, new: made(stage, case, "new")? })
    }
}

/// A Service with `near` behind it.
fn made(stage: &Stage, case: &Case<'_>, name: &str) -> Result<[SocketAddr; 2]> {
    stage.plane().create(&slices(stage, case, name, "near")?)?;
    case.service(name, &json!({}))
}

/// Slices of a Service with this host in them.
fn slices(stage: &Stage, case: &Case<'_>, service: &str, host: &str) -> Result<[Value; 2]> {
    let addrs = stage.addrs(host)?;
    Ok([("v4", Family::V4), ("v6", Family::V6)].map(|(suffix, family)| {
        let name = format!("{service}-{suffix}");
        let mut slice = objects::slice(&name, service, addrs.of(family), stage.port);
        slice["metadata"]["namespace"] = case.namespace.as_str().into();
        slice
    }))
}

/// What [`Changing::change`] has left.
#[derive(Debug)]
pub struct Changed {
    kept: [SocketAddr; 2],
    new: [SocketAddr; 2],
}

impl Changed {
    /// The changes come to be in force, and nothing else is.
    pub fn soon_in_force(&self, stage: &Stage, case: &Case<'_>) -> Result<()> {
        let ([kept4, kept6], [new4, new6]) = (self.kept, self.new);
        let ([near4, near6], [far4, far6]) =
            (case.backends("near", stage.port)?, case.backends("far", stage.port)?);
        let rows = [(kept4, far4), (kept6, far6), (new4, near4), (new6, near6)];
        case.soon_table(&rows.map(|(to, backend)| (format!("{to}/TCP"), vec![backend])))?;
        stage.answered_by("far", "pod", kept4)?;
        stage.answered_by("near", "pod", new6)
    }
}

fn away(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    let before = stage.table(&case.namespace)?;
    stage.block(true)?;
    let start = Instant::now();
    let changed = services.change(stage, case)?;
    unnoticed_for(stage, start, Duration::from_secs(60))?;
    let after = stage.table(&case.namespace)?;
    ensure!(after == before, "the tables have changed: {before:?}, {after:?}");
    stage.block(false)?;
    changed.soon_in_force(stage, case)
}

/// Traffic goes on until so long after the start.
pub fn unnoticed_for(stage: &Stage, start: Instant, time: Duration) -> Result<()> {
    wait::until_true("the time is over", time * 2, || {
        stage.unnoticed()?;
        Ok(start.elapsed() > time)
    })
}

/// The server sends a bookmark a minute. Our Node is quiet, so only by one can its watch know a later version than the
/// Node's own.
fn bookmark(stage: &Stage, case: &Case<'_>) -> Result<()> {
    unnoticed_for(stage, Instant::now(), Duration::from_secs(65))?;
    let name = stage.node_name(1);
    let own: u64 =
        case.get("node", &name)?["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse()?;
    stage.relay()?.cut_after(0);
    wait::until_true("the watch of the Node goes on after a later version", Duration::from_secs(10), || {
        let requests = stage.requests()?;
        let last = requests.iter().rfind(|request| request.resource == "nodes");
        let version = last.and_then(|request| request.parameter("resourceVersion")?.parse::<u64>().ok());
        ensure!(version > Some(own), "the Node has version {own}, the last request is {last:?}");
        Ok(true)
    })
}

fn cut_events(stage: &Stage, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    for round in 0..6 {
        // Every watch that hears of these changes ends inside the event that tells of them.
        stage.relay()?.cut_after(50 + 150 * round);
        let [v4, v6] = case.service("web", &json!({"selector": {"app": "near"}}))?;
        let [back4, back6] = case.backends("near", stage.port)?;
        case.soon_table(&[(format!("{v4}/TCP"), vec![back4]), (format!("{v6}/TCP"), vec![back6])])?;
        stage.relay()?.cut_after(50 + 150 * round);
        case.kubectl(&["delete", "service", "web"])?;
        case.soon_empty()?;
    }
    let cut = stage.relay()?.cut();
    ensure!(cut >= 12, "only {cut} watches were cut in the middle of something");
    Ok(())
}

fn cut_lists(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    stage.on_node(|_, daemon| daemon.kill())?;
    let before = stage.everything()?;
    let changed = services.change(stage, case)?;
    let relay = stage.relay()?;
    let mut allowance = 1500;
    relay.allow_each(Some(allowance));
    stage.on_node(|node, daemon| daemon.start(node))?;
    for _ in 0..5 {
        let cut = relay.cut();
        // All three lists have come to this end.
        wait::until_true("lists are cut", Duration::from_secs(20), || Ok(relay.cut() >= cut + 3))?;
        let now = stage.everything()?;
        ensure!(now == before, "after {allowance} octets the tables have changed: {before:?}, {now:?}");
        allowance = allowance * 8 / 5;
        relay.allow_each(Some(allowance));
    }
    relay.allow_each(None);
    stage.ready()?;
    changed.soon_in_force(stage, case)
}

fn slow(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    stage.relay()?.slow(Duration::from_millis(50));
    let changed = services.change(stage, case)?;
    changed.soon_in_force(stage, case)?;
    stage.on_node(|_, daemon| daemon.kill())?;
    stage.on_node(|node, daemon| daemon.start(node))?;
    stage.ready()?;
    changed.soon_in_force(stage, case)
}
