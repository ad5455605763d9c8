//! Whole upgrades, and their way back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::topology::Family;
use svc_tests::wait;
use svc_tests::world::{CHANGE_LIMIT, has_hooks};

use crate::streams::Streams;
use crate::testbed::{FAR, NEAR, Testbed, Version, Xdp, scenario};

/// On a busy machine.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "an upgrade to another layout of tables, and its way back, disturb no connection",
            Xdp::Off,
            |testbed| there_and_back(testbed, "there and back"),
        ),
        scenario(
            "an upgrade to another layout of tables, and its way back, disturb no connection",
            Xdp::Native,
            |testbed| there_and_back(testbed, "there and back with XDP"),
        ),
        scenario(
            "while the API server is away the earlier version serves; its tables are not believed after a rollback",
            Xdp::Off,
            without_lists,
        ),
    ]
}

fn there_and_back(testbed: &mut Testbed, title: &str) -> Result<()> {
    let streams = Streams::start(testbed)?;
    let before = streams.gaps()?;
    for version in [Version::Next, Version::This] {
        for node in 1..=2 {
            testbed.start(node, version)?;
            testbed.finish(node, version)?;
            streams.go_on(&format!("node{node} runs {version:?}"))?;
        }
    }
    streams.end(title, &before)
}

fn without_lists(testbed: &mut Testbed) -> Result<()> {
    let streams = Streams::start(testbed)?;
    let before = streams.gaps()?;
    for version in [Version::Next, Version::This] {
        // Only the tables in force have this change.
        let server = if version == Version::Next { "near" } else { "node2" };
        testbed.start_without_lists(1, version)?;
        attached(testbed)?;
        streams.go_on("the lists are away")?;
        let late = if version == Version::Next { "late" } else { "later" };
        testbed.world.topology.node_mut(1).add_pod(late)?;
        served(testbed, late)?;
        ensure!(
            version.other().tables(testbed.world.daemon(1)?).exists(),
            "the tables in force were removed"
        );
        testbed.start(1, version)?;
        testbed.finish(1, version)?;
        testbed.set_backends(FAR, &["far", server])?;
        streams.go_on("the new version serves")?;
    }
    streams.end("the API server away", &before)
}

/// A new pod is served soon, in both families.
fn served(testbed: &Testbed, pod: &str) -> Result<()> {
    for family in Family::BOTH {
        wait::until_true("the new pod is served", CHANGE_LIMIT, || {
            testbed.agent(pod)?.ask(Via::Tcp, NEAR.cluster_ip(family), 5).map(|_| true)
        })?;
    }
    Ok(())
}

/// Waits until the daemon has loaded its programs and found every hook.
fn attached(testbed: &mut Testbed) -> Result<()> {
    let daemon = testbed.world.daemon(1)?;
    wait::until_true("the hooks are found", LOAD_LIMIT, || {
        ensure!(!daemon.ended(), "svc-ctl ended");
        Ok(has_hooks(&daemon.status()?, "vethpod"))
    })
    .with_context(|| daemon.log())
}

/// Programs over these tables are pinned.
pub fn has_programs(tables: &Path) -> bool {
    let folders = fs::read_dir(tables.join("programs")).into_iter().flatten().flatten();
    folders.into_iter().any(|folder| folder.path().join("pod_egress").exists())
}
