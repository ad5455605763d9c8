//! `cargo xtask conformance`: makes a cluster of six nodes in three zones and runs the suite on it.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::record::Record;
use super::report::{SpecOutcome, SpecOutcomes};
use super::suite::{self, Place};
use super::{OURS, WITNESS, internet, publish, record_path};
use crate::cluster::args::{Cni, Conformance, Dns, Proxy, Up, word};
use crate::cluster::{self, Running, Settings};
use crate::{command, ownership, run_name};

/// Some specs need three zones with two nodes each.
const NODES: u8 = 6;
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// Leaves the cluster running, for inspection and for the next run.
pub fn main(settings: &Settings, args: &Conformance) -> Result<()> {
    let zones = ZONES.iter().cycle().take(NODES.into()).copied().map(str::to_owned).collect();
    let cluster = Up { nodes: NODES, cni: Cni::Ptp, proxy: args.proxy, dns: args.dns, lenient: false, zones };
    cluster::up(settings, &cluster)?;
    let running = Running::open(settings)?;
    let hub = running.hub();
    let place = Place {
        hub: &hub,
        kubeconfig: running.kubeconfig(),
        programs: settings.bin.clone(),
        nodes: NODES.into(),
        has_addresses: args.proxy == Proxy::Svc,
        dir: settings.dir.join("conformance"),
    };
    internet::stand_in(&hub)?;
    // The commit that was built, whatever the clone has when the suite ends.
    let commit =
        first_word("git", &["-c", "safe.directory=*", "describe", "--always", "--dirty", "--abbrev=12"]);
    let began = Instant::now();
    let outcomes = suite::run(&place, args.focus.as_deref(), args.dns, args.procs.into())?;
    show(&outcomes);
    eprintln!("{} s; reports and logs are in {}", began.elapsed().as_secs(), place.dir.display());
    if args.focus.is_some() || args.dns == Dns::Svc {
        let failed = outcomes.values().filter(|outcome| matches!(outcome, SpecOutcome::Failed(_))).count();
        ensure!(failed == 0, "{failed} specs failed");
        return Ok(());
    }
    record(&running, &word(&args.proxy), commit, outcomes)
}

/// Prints every spec that ran.
fn show(outcomes: &SpecOutcomes) {
    for (spec, outcome) in outcomes {
        match outcome {
            SpecOutcome::Passed => println!("pass  {spec}"),
            SpecOutcome::Failed(why) => println!("FAIL  {spec}: {why}"),
            SpecOutcome::Skipped(why) => println!("skip  {spec}: {why}"),
            SpecOutcome::NotRun => {}
        }
    }
}

/// Output of a program in the workspace; `None` without the program, or outside of a clone.
fn first_word(program: &str, arguments: &[&str]) -> Option<String> {
    let text =
        command::run(Command::new(program).current_dir(run_name::workspace_dir()).args(arguments)).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

/// Stores a whole run. If both proxies have one, the table is written again.
fn record(running: &Running, proxy: &str, commit: Option<String>, outcomes: SpecOutcomes) -> Result<()> {
    let version: Value =
        serde_json::from_str(&command::run(running.kubectl()?.args(["version", "-o", "json"]))?)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's version")?;
    let record = Record {
        proxy: proxy.to_owned(),
        kubernetes: version["serverVersion"]["gitVersion"].as_str().unwrap_or_default().to_owned(),
        cluster: running.state.flags.replace(&format!(" --proxy {proxy}"), ""),
        kernel: kernel.trim().to_owned(),
        commit,
        date: first_word("date", &["--utc", "+%F"]),
        load: fs::read_to_string("/proc/loadavg")
            .ok()
            .and_then(|text| text.split(' ').nth(2).map(str::to_owned)),
        outcomes,
    };
    record.write(&record_path(proxy))?;
    println!("{proxy}: {} passed, {} failed", record.passed(), record.failed());
    let published = if [OURS, WITNESS].iter().all(|proxy| record_path(proxy).exists()) {
        publish().map(drop)
    } else {
        Ok(())
    };
    ownership::hand_back(&[&super::folder(), &super::table_path()])?;
    published
}
