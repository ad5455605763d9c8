//! Changes a running node from kube-proxy to svc.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::{Job, Report};
use svc_tests::daemon::Flags;
use svc_tests::standin;
use svc_tests::topology::{Family, Options};
use svc_tests::wait;

use crate::case::{Row, Target, Way};
use crate::lab::Lab;

/// Longer than the time after which a connection without a reply counts as failed.
const VERDICT_LIMIT: Duration = Duration::from_secs(10);

/// Clients and destinations of open connections.
const CONNECTIONS: [(&str, Target); 5] = [
    ("client", Target::NodePort("near")),
    ("client", Target::NodePort("far")),
    ("pod", Target::ClusterIp("near")),
    ("pod", Target::ClusterIp("far")),
    ("node1", Target::ClusterIp("far")),
];

pub fn trial() -> Trial {
    Trial::test(
        "R22: a change from kube-proxy keeps the connections that conntrack translates, and serves new ones (SEM-079)",
        || {
            let mut lab =
                Lab::new("change-over", Options::default()).map_err(|error| format!("{error:#}"))?;
            let played = play(&mut lab);
            played.map_err(|error| format!("{error:#}\n{}", lab.world.diagnosis()).into())
        },
    )
}

fn play(lab: &mut Lab) -> Result<()> {
    let rows = CONNECTIONS.map(|(client, to)| match to {
        Target::NodePort(server) | Target::ClusterIp(server) => Row::answered(client, to, server),
        Target::Own(_) | Target::External(_) | Target::NodePortAt(..) => {
            unreachable!("no such connection is in the list")
        }
    });
    lab.check(Way::Direct, &rows)?;
    lab.world.topology.nodes.iter().try_for_each(|node| standin::install(node, &lab.services))?;
    lab.check(Way::Nft, &rows)?;
    let mut open = Vec::new();
    for (client, to) in CONNECTIONS {
        for family in Family::BOTH {
            let to = lab.address(to, family)?;
            let job = lab.world.topology.host(client)?.agent.start_stream(to, 20)?;
            open.push((format!("{client} {to}"), job));
        }
    }
    open.iter().try_for_each(|(what, job)| until(what, job, |report| report.ok > 0))?;
    lab.world.start(Flags::default())?;
    lab.world.topology.nodes.iter().try_for_each(standin::remove)?;
    for (what, job) in &open {
        let before = job.look()?;
        until(what, job, |now| now.failed > 0 || now.ok > before.ok + 20)?;
        let report = job.look()?;
        ensure!(report.failed == 0, "{what}: {report:?}");
    }
    lab.check(Way::Svc, &rows)
}

fn until(what: &str, job: &Job, holds: impl Fn(&Report) -> bool) -> Result<()> {
    wait::until_true(what, VERDICT_LIMIT, || {
        let report = job.look()?;
        ensure!(holds(&report), "{report:?}");
        Ok(true)
    })
}
