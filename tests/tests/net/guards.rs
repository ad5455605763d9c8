//! svc does not take over things of others: pins of a running daemon, foreign folders, an address that is already
//! served.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use svc_tests::agent::Via;
use svc_tests::bpffs::BpfFs;
use svc_tests::daemon::Flags;
use svc_tests::manifests::Service;
use svc_tests::testbed::{Testbed, no_failure, scenario, until_more};
use svc_tests::topology::{Family, Options};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

pub fn trials() -> Vec<Trial> {
    vec![
        scenario("cleanup is refused while the daemon runs, and names it", testbed, cleanup_under_a_daemon),
        scenario("a second daemon on the same pins is refused, and names --pin-dir", testbed, second_daemon),
        scenario(
            "cleanup of a folder that is no bpffs is refused and deletes nothing",
            testbed,
            plain_folder,
        ),
        scenario(
            "a new Service with an earlier name does not take the address of one that is served, and is named",
            testbed,
            contested_address,
        ),
    ]
}

fn testbed(test: &str) -> Result<Testbed> {
    Testbed::new(test, Options::default(), Flags::default(), &["near"])
}

fn cleanup_under_a_daemon(testbed: &mut Testbed) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    let before = BpfFs::pins(daemon.pins());
    let said = refusal(daemon.cleanup(node), "cleanup went through")?;
    let named = said.contains("svc-ctl runs") && said.contains(&*daemon.pins().to_string_lossy());
    ensure!(named, "no word of the daemon that runs: {said}");
    ensure!(!daemon.ended(), "the daemon ended: {}", daemon.log());
    ensure!(BpfFs::pins(daemon.pins()) == before, "pins are gone");
    testbed.served_at_cluster_ip("near", "pod")
}

fn second_daemon(testbed: &mut Testbed) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    let mut rival = daemon.rival(&daemon.run_dir().join("rival"))?;
    rival.start(node)?;
    wait::until_true("the second daemon ends", Duration::from_secs(5), || {
        let ended = rival.ended();
        ensure!(ended, "it runs: {}", rival.log());
        Ok(ended)
    })?;
    ensure!(rival.log().contains("--pin-dir"), "no word of --pin-dir: {}", rival.log());
    ensure!(!daemon.ended(), "the first daemon ended: {}", daemon.log());
    // The first daemon still works: it reads new manifests.
    testbed.set_backends(&["far"])?;
    testbed.soon_answered_by("far", "pod", testbed.cluster_ip(Family::V4))?;
    testbed.served_at_cluster_ip("far", "pod")
}

fn plain_folder(testbed: &mut Testbed) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    daemon.stop()?;
    let folder = daemon.run_dir().join("mine");
    let files = ["FLOWS4", "letters/home", "links/eth0"].map(|name| folder.join(name));
    for file in &files {
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, "mine")?;
    }
    let said = refusal(daemon.cleanup_of(node, &folder), "cleanup went through")?;
    ensure!(said.contains(&*folder.to_string_lossy()), "no word of the folder: {said}");
    for file in &files {
        ensure!(fs::read(file).is_ok_and(|text| text == b"mine"), "{} is gone", file.display());
    }
    ensure!(!BpfFs::pins(daemon.pins()).is_empty(), "the pins are gone");
    testbed.served_at_cluster_ip("near", "pod")
}

/// svc-ctl's message when it refused.
fn refusal(outcome: Result<()>, otherwise: &str) -> Result<String> {
    match outcome {
        Ok(()) => anyhow::bail!("{otherwise}"),
        Err(error) => {
            // The error also contains the command line, before the program's output.
            let text = format!("{error:#}");
            Ok(text.split_once("exit status: ").map(|(_, said)| said.to_owned()).unwrap_or(text))
        }
    }
}

/// `alpha` sorts before `web`.
fn contested_address(testbed: &mut Testbed) -> Result<()> {
    let mut jobs = Vec::new();
    for family in Family::BOTH {
        for (client, to) in [
            ("pod", testbed.cluster_ip(family)),
            ("node1", testbed.cluster_ip(family)),
            ("client", testbed.node_port(family)),
        ] {
            for via in [Via::Tcp, Via::UdpConnected] {
                let job = testbed.agent(client)?.start_load(via, to, 50)?;
                jobs.push((format!("{client} {via} {to}"), job));
            }
        }
    }
    jobs.iter().try_for_each(|(_, job)| until_more(job, 5).map(|_| ()))?;
    let alpha = Service { name: "alpha".into(), ..testbed.service(&["far"])? };
    testbed.world.folder.write_service(&alpha)?;
    for node in [1, 2] {
        let daemon = testbed.world.daemon(node)?;
        wait::until_true(&format!("node{node} names alpha"), CHANGE_LIMIT, || {
            let complaints = daemon.complaints()?;
            ensure!(complaints.iter().any(names_alpha), "the complaints are {complaints:?}");
            Ok(true)
        })?;
    }
    for (what, job) in jobs {
        until_more(&job, 20)?;
        let report = job.stop()?;
        no_failure(&what, &report)?;
        ensure!(report.by_server.keys().eq(["near"]), "{what}: {:?} answered", report.by_server);
    }
    Ok(())
}

fn names_alpha(complaint: &Value) -> bool {
    complaint.to_string().contains("alpha")
}
