//! Leftovers of svc, and how svc treats leftovers of others.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::MapInfo;
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::bpffs::BpfFs;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Node, Options};
use svc_tests::world::CHANGE_LIMIT;
use svc_tests::{attached, command, wait};

pub fn trials() -> Vec<Trial> {
    vec![
        scenario("cleanup leaves no program, pin or qdisc behind (SEM-272)", testbed, cleanup_leaves_nothing),
        scenario(
            "an invalid manifest leaves the last good state in force and is named",
            testbed,
            invalid_manifest,
        ),
        scenario("a pinned map of another ABI is named and not used", testbed, foreign_map),
    ]
}

fn testbed(test: &str) -> Result<Testbed> {
    Testbed::new(test, Options::default(), Flags::default(), &["near"])
}

fn cleanup_leaves_nothing(testbed: &mut Testbed) -> Result<()> {
    testbed.served_at_cluster_ip("near", "pod")?;
    for index in [1, 2] {
        let (node, daemon) = testbed.world.on_node(index)?;
        daemon.stop()?;
        ensure!(
            !BpfFs::pins(daemon.pins()).is_empty(),
            "an orderly stop keeps the pins, {} has none",
            node.name()
        );
        // Otherwise nothing could be left, and the test would show nothing.
        let hooks = attached::at_interfaces(&node.host.netns)?;
        ensure!(!hooks.is_empty(), "an orderly stop keeps the programs, {} has none", node.name());
        daemon.cleanup(node)?;
        // The kernel detaches a program a moment after its last reference is gone.
        let what = format!("{} is clean", node.name());
        wait::until_true(&what, Duration::from_secs(2), || clean(node, daemon.pins()).map(|()| true))?;
    }
    Ok(())
}

fn clean(node: &Node, pin_dir: &Path) -> Result<()> {
    let pins = BpfFs::pins(pin_dir);
    ensure!(pins.is_empty(), "pins stay: {pins:?}");
    let mut hooks = attached::at_interfaces(&node.host.netns)?;
    hooks.extend(attached::at_cgroup(node.cgroup())?);
    ensure!(hooks.is_empty(), "programs stay: {hooks:?}");
    let links = command::run(Command::new("ip").args(["-n", node.host.netns.name(), "link"]))?;
    ensure!(!links.contains("xdp"), "XDP stays: {links}");
    let qdiscs = command::run(Command::new("tc").args(["-n", node.host.netns.name(), "qdisc"]))?;
    ensure!(!qdiscs.contains("clsact"), "qdiscs stay: {qdiscs}");
    Ok(())
}

fn invalid_manifest(testbed: &mut Testbed) -> Result<()> {
    let good = testbed.manifest(&["far"])?;
    let half = &good[..good.len() / 3];
    let wrong = good.replace("nodePort: 30080", "nodePort: many");
    for bad in [half, &wrong] {
        testbed.world.folder.write("web.yaml", bad)?;
        let daemon = testbed.world.daemon(1)?;
        wait::until_true("the status names web.yaml", CHANGE_LIMIT, || {
            let status = daemon.status()?.to_string();
            ensure!(status.contains("web.yaml"), "status is {status}");
            Ok(true)
        })?;
        testbed.served_at_cluster_ip("near", "pod")?;
    }
    testbed.world.folder.write("web.yaml", &good)?;
    let to = testbed.cluster_ip(Family::V4);
    wait::until_true("the mended manifest is in force", CHANGE_LIMIT, || {
        testbed.answered_by("far", "pod", Via::Tcp, to).map(|()| true)
    })
}

fn foreign_map(testbed: &mut Testbed) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    daemon.kill()?;
    let pins = BpfFs::pins(daemon.pins());
    let pin =
        |name: &str| pins.iter().find(|pin| pin.ends_with(name)).with_context(|| format!("no pin {name}"));
    // Another map under its name, with other sizes, as after a change of the ABI.
    let place = pin("BACKENDS4")?;
    fs::rename(pin("SELECTION")?, place)?;
    let _ = fs::remove_file(daemon.log_path());
    daemon.start(node)?;
    wait::until_true("the daemon names BACKENDS4", Duration::from_secs(10), || {
        // Whether it ended with an error or runs with a warning, the map is named.
        let said = daemon.status().map_or_else(|error| format!("{error:#}"), |status| status.to_string());
        ensure!((said + &daemon.log()).contains("BACKENDS4"), "the log is: {}", daemon.log());
        Ok(true)
    })?;
    wait::until_true("the daemon has ended, or has another map", CHANGE_LIMIT, || {
        let is_foreign = MapInfo::from_pin(place)?.name_as_str() == Some("SELECTION");
        Ok(daemon.ended() || !is_foreign)
    })
}
