//! Daemons that are replaced and killed under traffic that must not notice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};

use crate::downtime::{Downtime, watch};
use crate::load::{COMBINATIONS, Load, Rates};
use crate::stage::{DAEMON, DAEMONS, Stage, Theatre, case};
use crate::transcript::Transcript;

/// In all 320 new ones and 1600 requests on 80 that last, a second.
const RATES: Rates = Rates { new: 8, streams: 2, asks: 20 };

/// What a rolling update has to stand.
const NEW_PER_SECOND: u64 = 200;
const LASTING: u32 = 50;
/// Answers while a node had no daemon: on all nodes together, and a second on each, half of what [`RATES`] asks there.
const INSIDE: u64 = 1000;
const INSIDE_PER_SECOND: f64 = (COMBINATIONS / 2 * (RATES.new + RATES.streams * RATES.asks)) as f64 / 2.0;

pub fn trials(theatre: &Arc<Theatre>) -> Vec<Trial> {
    vec![
        case(theatre, "a rolling update of svc fails no connection", rolling_update),
        case(theatre, "a daemon that is killed is started again, and no connection fails", killed),
    ]
}

fn rolling_update(stage: &Stage) -> Result<()> {
    let before = daemons(stage)?;
    let load = Load::start(stage, RATES)?;
    let (new, streams, began) = (load.look_new()?, load.look_streams()?, Instant::now());
    stage.kubectl(&["-n", "kube-system", "rollout", "restart", "daemonset/svc"])?;
    let downtimes = thread::scope(|scope| {
        let start = |way| scope.spawn(move || watch(way, stage.cluster.client(), began));
        let watchers: Vec<_> = load.ways().iter().map(start).collect();
        watchers.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    stage.kubectl(&["-n", "kube-system", "rollout", "status", "--timeout=60s", "daemonset/svc"])?;
    let transcript = Transcript {
        took: began.elapsed(),
        new: load.look_new()?.since(&new),
        lasting: COMBINATIONS * RATES.streams,
        streams: load.look_streams()?.since(&streams),
        downtimes,
    };
    transcript.tell()?;
    load.check()?;
    let after = daemons(stage)?;
    ensure!(before.is_disjoint(&after), "not all daemons were replaced: {before:?}, {after:?}");
    ensure!(transcript.lasting >= LASTING, "{} connections that last", transcript.lasting);
    ensure!(
        transcript.new_per_second() >= NEW_PER_SECOND,
        "{} new ones a second",
        transcript.new_per_second()
    );
    for Downtime { node, down, up, inside } in &transcript.downtimes {
        let wanted = (*up - *down).as_secs_f64() * INSIDE_PER_SECOND;
        ensure!(
            inside.ok as f64 >= wanted,
            "{} answers while {node} had no daemon, {wanted:.0} are wanted",
            inside.ok
        );
    }
    let inside: u64 = transcript.downtimes.iter().map(|downtime| downtime.inside.ok).sum();
    ensure!(inside >= INSIDE, "{inside} answers while a node had no daemon");
    Ok(())
}

fn killed(stage: &Stage) -> Result<()> {
    let load = Load::start(stage, RATES)?;
    let began = Instant::now();
    for way in load.ways() {
        let pids = stage.places.processes(&way.node, DAEMON)?;
        pids.iter().try_for_each(|pid| kill(*pid, Signal::SIGKILL)).context("kill the daemon")?;
        let Downtime { down, up, inside, .. } = watch(way, stage.cluster.client(), began)?;
        println!(
            "{}: killed, ready {:.1} s later, {} answers",
            way.node,
            (up - down).as_secs_f64(),
            inside.ok
        );
        ensure!(inside.ok > 0, "no traffic on the way of {}", way.node);
        let now = stage.places.processes(&way.node, DAEMON)?;
        ensure!(now.len() == 1 && now != pids, "{pids:?} were killed on {}, {now:?} are there", way.node);
    }
    load.check().map(drop)
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a watcher panicked"))?
}

/// Names of their pods.
fn daemons(stage: &Stage) -> Result<BTreeSet<String>> {
    let pods = stage.places.await_pods("kube-system", DAEMONS, stage.clients.len())?;
    Ok(pods.into_iter().map(|pod| pod.name).collect())
}
