//! An API server that is stopped, killed, frozen, compacted, or cannot stream lists.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::case::Case;
use crate::fixtures::{Fixtures, play};
use crate::link::{Changing, unnoticed_for};
use crate::testbed::Testbed;

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let case = |sentence: &'static str, act: fn(&Testbed, &Case<'_>) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        Trial::test(sentence, move || {
            // One case after the other, because they share the API server.
            let _turn = fixtures.fault_turn.lock().unwrap_or_else(PoisonError::into_inner);
            let set = || {
                let testbed = fixtures.faulty()?;
                testbed.plane().revive();
                Ok(testbed)
            };
            play(sentence, set, act)
        })
    };
    vec![
        case(
            "a restarted API server disturbs no traffic, then all changes come into force (SEM-271)",
            restarted,
        ),
        case("a frozen API server disturbs no traffic, then all changes come into force", frozen),
        case("a watch that is too old lists anew and misses nothing", compacted),
        case("an API server that is killed and returns without streamed lists disturbs no traffic", killed),
    ]
}

fn restarted(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    let plane = testbed.plane();
    gone_for_a_while(testbed, case, || {
        plane.control_mut().stop_apiserver()?;
        testbed.unnoticed()?;
        plane.control_mut().start_apiserver()
    })?;
    services.change(testbed, case)?.soon_in_force(testbed, case)
}

/// Leaves a server that cannot stream lists, which suits any other case as well.
fn killed(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    let asked = testbed.requests()?;
    ensure!(asked.iter().all(|request| request.verb != "list"), "not all was streamed: {asked:?}");
    let mut watches = asked.iter().filter(|request| request.verb == "watch");
    let bookmarks = watches.all(|request| request.parameter("allowWatchBookmarks") == Some("true"));
    ensure!(bookmarks, "a watch without bookmarks: {asked:?}");

    let plane = testbed.plane();
    gone_for_a_while(testbed, case, || {
        plane.control_mut().kill_apiserver()?;
        testbed.unnoticed()?;
        plane.control_mut().start_apiserver_with(&["--feature-gates=WatchList=false"])
    })?;
    let changed = services.change(testbed, case)?;
    changed.soon_in_force(testbed, case)?;

    testbed.on_node(|_, daemon| daemon.kill())?;
    testbed.on_node(|node, daemon| daemon.start(node))?;
    testbed.ready()?;
    changed.soon_in_force(testbed, case)?;
    let now = testbed.requests()?;
    for kind in ["services", "endpointslices", "nodes"] {
        let is_listed = now.iter().any(|r| r.resource == kind && r.verb == "list" && r.code == 200);
        ensure!(is_listed, "{kind} were not listed: {:?}", now.get(asked.len()..));
    }
    Ok(())
}

/// The case's Services do not change in the meantime. (An API server that stops in an orderly way removes itself from
/// the Service kubernetes.)
fn gone_for_a_while(testbed: &Testbed, case: &Case<'_>, inject: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = testbed.table(&case.namespace)?;
    inject()?;
    let now = testbed.table(&case.namespace)?;
    ensure!(now == before, "the tables have changed: {before:?}, {now:?}");
    Ok(())
}

fn frozen(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    testbed.plane().control().freeze_apiserver(true)?;
    let seen = unnoticed_for(testbed, Instant::now(), Duration::from_secs(3));
    testbed.plane().control().freeze_apiserver(false)?;
    seen?;
    let changed = services.change(testbed, case)?;
    changed.soon_in_force(testbed, case)
}

fn compacted(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(testbed, case)?;
    testbed.relay()?.shut(true);
    let changed = services.change(testbed, case)?;
    let plane = testbed.plane();
    plane.control().compact_etcd()?;
    // It would still send the history in its own cache.
    plane.control_mut().kill_apiserver()?;
    plane.control_mut().start_apiserver()?;
    let asked = testbed.requests()?.len();
    testbed.relay()?.shut(false);
    changed.soon_in_force(testbed, case)?;
    let requests = testbed.requests()?;
    let news = requests.get(asked..).unwrap_or_default();
    for kind in ["services", "endpointslices"] {
        let first = news.iter().find(|request| request.resource == kind);
        ensure!(first.is_some_and(|request| !request.is_list()), "{kind} did not go on first: {news:?}");
        ensure!(news.iter().any(|r| r.resource == kind && r.is_list()), "{kind} were not listed: {news:?}");
    }
    Ok(())
}
