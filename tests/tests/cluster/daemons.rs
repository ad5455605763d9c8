//! Daemons that are replaced and killed under traffic that must not be disturbed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};

use crate::downtime::{Downtime, watch};
use crate::load::{COMBINATIONS, Load, Rates};
use crate::testbed::{DAEMON, DAEMONS, Fixtures, Testbed, case};
use crate::transcript::Transcript;

/// In total 320 new connections and 1600 requests on 80 open ones, per second.
const RATES: Rates = Rates { new: 8, streams: 2, asks: 20 };

/// Rate of new connections during a rolling restart.
const NEW_PER_SECOND: u64 = 200;
const LASTING: u32 = 50;
/// Replies while a node had no daemon, for all nodes together: per node and second half of the requests of [`RATES`].
const INSIDE: u64 = 1000;
const INSIDE_PER_SECOND: f64 = (COMBINATIONS / 2 * (RATES.new + RATES.streams * RATES.asks)) as f64 / 2.0;

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    vec![
        case(fixtures, "a rolling restart of svc fails no connection", rolling_restart),
        case(fixtures, "a daemon that is killed is started again, and no connection fails", killed),
    ]
}

fn rolling_restart(testbed: &Testbed) -> Result<()> {
    let before = daemons(testbed)?;
    let load = Load::start(testbed, RATES)?;
    let (new, streams, began) = (load.look_new()?, load.look_streams()?, Instant::now());
    testbed.kubectl(&["-n", "kube-system", "rollout", "restart", "daemonset/svc"])?;
    let downtimes = thread::scope(|scope| {
        let start = |traffic| scope.spawn(move || watch(traffic, testbed.cluster.client(), began));
        let watchers: Vec<_> = load.by_node().iter().map(start).collect();
        watchers.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    testbed.kubectl(&["-n", "kube-system", "rollout", "status", "--timeout=60s", "daemonset/svc"])?;
    let transcript = Transcript {
        took: began.elapsed(),
        new: load.look_new()?.since(&new),
        lasting: COMBINATIONS * RATES.streams,
        streams: load.look_streams()?.since(&streams),
        downtimes,
    };
    transcript.publish()?;
    load.check()?;
    let after = daemons(testbed)?;
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

fn killed(testbed: &Testbed) -> Result<()> {
    let load = Load::start(testbed, RATES)?;
    let began = Instant::now();
    for traffic in load.by_node() {
        let pids = testbed.places.processes(&traffic.node, DAEMON)?;
        pids.iter().try_for_each(|pid| kill(*pid, Signal::SIGKILL)).context("kill the daemon")?;
        let Downtime { down, up, inside, .. } = watch(traffic, testbed.cluster.client(), began)?;
        println!(
            "{}: killed, ready {:.1} s later, {} answers",
            traffic.node,
            (up - down).as_secs_f64(),
            inside.ok
        );
        ensure!(inside.ok > 0, "no traffic through {}", traffic.node);
        let now = testbed.places.processes(&traffic.node, DAEMON)?;
        ensure!(now.len() == 1 && now != pids, "{pids:?} were killed on {}, {now:?} are there", traffic.node);
    }
    load.check().map(drop)
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a watcher panicked"))?
}

/// Names of the daemons' pods.
fn daemons(testbed: &Testbed) -> Result<BTreeSet<String>> {
    let pods = testbed.places.await_pods("kube-system", DAEMONS, testbed.clients.len())?;
    Ok(pods.into_iter().map(|pod| pod.name).collect())
}
