//! An API server that is stopped, killed, frozen, that forgets, and that cannot stream lists.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::case::Case;
use crate::link::{Changing, unnoticed_for};
use crate::stage::Stage;
use crate::theatre::{Theatre, play};

pub fn trials(theatre: &Arc<Theatre>) -> Vec<Trial> {
    let case = |sentence: &'static str, act: fn(&Stage, &Case<'_>) -> Result<()>| {
        let theatre = Arc::clone(theatre);
        Trial::test(sentence, move || {
            // One after the other: there is one server to hurt.
            let _turn = theatre.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let set = || {
                let stage = theatre.hurt()?;
                stage.plane().revive();
                Ok(stage)
            };
            play(sentence, set, act)
        })
    };
    vec![
        case(
            "an API server that is restarted is missed by nobody, then all is caught up (SEM-271)",
            restarted,
        ),
        case("an API server that is frozen is missed by nobody, then all is caught up", frozen),
        case("a watch that is too old lists anew and misses nothing", compacted),
        case("an API server that is killed and streams no lists when it is back is missed by nobody", killed),
    ]
}

fn restarted(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    let plane = stage.plane();
    gone_for_a_while(stage, case, || {
        plane.control_mut().stop_apiserver()?;
        stage.unnoticed()?;
        plane.control_mut().start_apiserver()
    })?;
    services.change(stage, case)?.soon_in_force(stage, case)
}

/// Leaves behind a server that cannot stream lists, which is as good for any other case.
fn killed(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    let asked = stage.requests()?;
    ensure!(asked.iter().all(|request| request.verb != "list"), "not all was streamed: {asked:?}");
    let mut watches = asked.iter().filter(|request| request.verb == "watch");
    let bookmarks = watches.all(|request| request.parameter("allowWatchBookmarks") == Some("true"));
    ensure!(bookmarks, "a watch without bookmarks: {asked:?}");

    let plane = stage.plane();
    gone_for_a_while(stage, case, || {
        plane.control_mut().kill_apiserver()?;
        stage.unnoticed()?;
        plane.control_mut().start_apiserver_with(&["--feature-gates=WatchList=false"])
    })?;
    let changed = services.change(stage, case)?;
    changed.soon_in_force(stage, case)?;

    stage.on_node(|_, daemon| daemon.kill())?;
    stage.on_node(|node, daemon| daemon.start(node))?;
    stage.ready()?;
    changed.soon_in_force(stage, case)?;
    let now = stage.requests()?;
    for kind in ["services", "endpointslices", "nodes"] {
        let is_listed = now.iter().any(|r| r.resource == kind && r.verb == "list" && r.code == 200);
        ensure!(is_listed, "{kind} were not listed: {:?}", now.get(asked.len()..));
    }
    Ok(())
}

/// Nothing of the case's Services changes meanwhile. (An API server that stops in good order takes itself out of the
/// Service kubernetes.)
fn gone_for_a_while(stage: &Stage, case: &Case<'_>, hurt: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = stage.table(&case.namespace)?;
    hurt()?;
    let now = stage.table(&case.namespace)?;
    ensure!(now == before, "the tables have changed: {before:?}, {now:?}");
    Ok(())
}

fn frozen(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    stage.plane().control().freeze_apiserver(true)?;
    let seen = unnoticed_for(stage, Instant::now(), Duration::from_secs(3));
    stage.plane().control().freeze_apiserver(false)?;
    seen?;
    let changed = services.change(stage, case)?;
    changed.soon_in_force(stage, case)
}

fn compacted(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let services = Changing::new(stage, case)?;
    stage.relay()?.shut(true);
    let changed = services.change(stage, case)?;
    let plane = stage.plane();
    plane.control().compact_etcd()?;
    // What it has seen itself it would still tell.
    plane.control_mut().kill_apiserver()?;
    plane.control_mut().start_apiserver()?;
    let asked = stage.requests()?.len();
    stage.relay()?.shut(false);
    changed.soon_in_force(stage, case)?;
    let requests = stage.requests()?;
    let news = requests.get(asked..).unwrap_or_default();
    for kind in ["services", "endpointslices"] {
        let first = news.iter().find(|request| request.resource == kind);
        ensure!(first.is_some_and(|request| !request.is_list()), "{kind} did not go on first: {news:?}");
        ensure!(news.iter().any(|r| r.resource == kind && r.is_list()), "{kind} were not listed: {news:?}");
    }
    Ok(())
}
