//! Servers that come and go under traffic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Report;
use svc_tests::cluster::Pod;
use svc_tests::wait;

use crate::load::{Load, Rates, servers};
use crate::testbed::{ECHO, Fixtures, NAMESPACE, Testbed, case};

/// A change shows in the traffic within this time.
pub const LIMIT: Duration = Duration::from_secs(30);

/// In total 200 per second.
const RATES: Rates = Rates { new: 5, streams: 0, asks: 0 };

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    vec![
        case(fixtures, "replicas that come and go fail no request", scaled),
        case(fixtures, "replicas that are replaced fail no request", replaced),
    ]
}

fn scaled(testbed: &Testbed) -> Result<()> {
    let load = Load::start(testbed, RATES)?;
    for count in [6, 1, 3] {
        testbed.kubectl(&["-n", NAMESPACE, "scale", "deployment/echo", &format!("--replicas={count}")])?;
        answered_by(&load, &testbed.places.await_pods(NAMESPACE, ECHO, count)?)?;
    }
    let seen = load.check()?;
    println!("{} requests while 2 replicas became 6, 1 and 3: none failed", seen.ok);
    Ok(())
}

fn replaced(testbed: &Testbed) -> Result<()> {
    let load = Load::start(testbed, RATES)?;
    let before = testbed.places.pods(NAMESPACE, ECHO)?;
    testbed.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment/echo"])?;
    testbed.kubectl(&["-n", NAMESPACE, "rollout", "status", "--timeout=60s", "deployment/echo"])?;
    let after = testbed.places.await_pods(NAMESPACE, ECHO, before.len())?;
    answered_by(&load, &after)?;
    let stayed = after.iter().find(|pod| before.contains(pod));
    ensure!(stayed.is_none(), "not replaced: {stayed:?}");
    let seen = load.check()?;
    println!("{} requests while {} replicas were replaced: none failed", seen.ok, before.len());
    Ok(())
}

/// Waits until exactly these pods answer.
fn answered_by(load: &Load, pods: &[Pod]) -> Result<()> {
    let wanted: BTreeSet<_> = pods.iter().map(|pod| pod.name.as_str()).collect();
    let mut before = load.check()?;
    let mut since = Report::default();
    wait::until_true(&format!("answers come from {wanted:?}"), LIMIT, || {
        let now = load.check()?;
        // Enough requests that random selection reaches every pod.
        if now.ok - before.ok > 200 {
            since = now.since(&before);
            before = now;
        }
        Ok(servers(&since) == wanted)
    })
}
