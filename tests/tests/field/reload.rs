//! A firewall that is loaded again.

use anyhow::{Context as _, Result, ensure};
use svc_tests::agent::Via;
use svc_tests::command;
use svc_tests::testbed::{no_failure, until_more, until_more_than};
use svc_tests::topology::Family;

use crate::case::{Case, ClientOutcome, Row, Target, Way};
use crate::lab::Lab;

const CONNECTIONS: [(&str, Target, &str); 4] = [
    ("client", Target::NodePort("far"), "far"),
    ("client", Target::NodePort("near"), "near"),
    ("pod", Target::ClusterIp("far"), "far"),
    ("node1", Target::ClusterIp("near"), "near"),
];

pub fn cases() -> Vec<Case> {
    let rows = CONNECTIONS.map(|(client, to, server)| Row::answered(client, to, server));
    vec![Case {
        // A flush ends what the CNI masquerades, whatever serves Services.
        prepare: |lab| lab.world.end_cni_masquerade(),
        each: Some((
            "open connections and new ones go on after `nft flush ruleset`; the control loses its Services",
            after_a_flush,
        )),
        ..Case::new(
            "R48",
            "a firewall that is loaded again (`firewall-cmd --reload`) ends no Service",
            rows.to_vec(),
        )
    }]
}

/// The rules are back afterwards, for the next variant.
fn after_a_flush(lab: &mut Lab, way: Way) -> Result<()> {
    let saved =
        command::run(lab.world.topology.node(1).host.netns.command("nft")?.args(["list", "ruleset"]))?;
    let checked = flush(lab, way);
    lab.world
        .topology
        .node(1)
        .host
        .netns
        .nft(&format!("flush ruleset\n{saved}"))
        .context("the rules again")?;
    checked
}

fn flush(lab: &Lab, way: Way) -> Result<()> {
    let mut jobs = Vec::new();
    for (client, target, server) in CONNECTIONS {
        for family in Family::BOTH {
            let to = lab.dialled(way, target, server, family)?;
            let agent = &lab.world.topology.host(client)?.agent;
            jobs.push((format!("{client} {to}, open"), agent.start_stream(to, 20)?));
            jobs.push((format!("{client} {to}, new ones"), agent.start_load(Via::Tcp, to, 20)?));
        }
    }
    jobs.iter().try_for_each(|(what, job)| no_failure(what, &until_more(job, 2)?))?;
    let netns = &lab.world.topology.node(1).host.netns;
    netns.nft("flush ruleset")?;
    let left = command::run(netns.command("nft")?.args(["list", "ruleset"]))?;
    ensure!(left.trim().is_empty(), "rules are left: {left}");
    let lost = |(client, to, server)| Row::answered(client, to, server).nft(ClientOutcome::NoAnswer);
    lab.check(way, &CONNECTIONS.map(lost))?;
    if way == Way::Nft {
        return Ok(());
    }
    let before = jobs.iter().map(|(_, job)| job.look()).collect::<Result<Vec<_>>>()?;
    jobs.iter()
        .zip(&before)
        .try_for_each(|((what, job), before)| no_failure(what, &until_more_than(before, job, 10)?))
}
