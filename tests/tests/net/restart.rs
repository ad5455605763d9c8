//! The daemon dies and comes back; the datapath must not notice.

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use svc_tests::agent::{Job, Via};
use svc_tests::daemon::Flags;
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::stage::{Stage, no_failure, scenario, until_more_than};

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "a killed daemon is missed by no connection, open or new, routed",
            routed,
            killed_under_load,
        ),
        scenario(
            "a killed daemon is missed by no connection, open or new, bridged",
            bridged,
            killed_under_load,
        ),
        scenario("an orderly stop is missed by no connection, open or new", routed, stopped_under_load),
        scenario("a pod created while the daemon is down is served", pod_sockets, pod_without_daemon),
        scenario(
            "an interface made again while the daemon was down is attached anew, routed",
            routed,
            relinked,
        ),
        scenario(
            "an interface made again while the daemon was down is attached anew, bridged",
            bridged,
            relinked,
        ),
    ]
}

fn stage(test: &str, shape: Shape, flags: Flags) -> Result<Stage> {
    Stage::new(test, Options { shape, ..Options::default() }, flags, &["near", "far"])
}

fn routed(test: &str) -> Result<Stage> {
    stage(test, Shape::Routed, Flags::default())
}

fn bridged(test: &str) -> Result<Stage> {
    stage(test, Shape::Bridged, Flags::default())
}

fn pod_sockets(test: &str) -> Result<Stage> {
    stage(test, Shape::Routed, Flags { pod_sockets: true, ..Flags::default() })
}

/// Open connections and new ones, from clients of every kind.
fn jobs(stage: &Stage) -> Result<Vec<(String, Job)>> {
    let mut jobs = Vec::new();
    for family in Family::BOTH {
        let (cluster_ip, node_port) = (stage.cluster_ip(family), stage.node_port(family));
        for (client, to) in [("pod", cluster_ip), ("node1", cluster_ip), ("client", node_port)] {
            let agent = stage.agent(client)?;
            jobs.push((format!("open connection of {client} to {to}"), agent.start_stream(to, 50)?));
            for via in [Via::Tcp, Via::UdpConnected] {
                jobs.push((format!("new {via} of {client} to {to}"), agent.start_load(via, to, 50)?));
            }
        }
    }
    Ok(jobs)
}

fn killed_under_load(stage: &mut Stage) -> Result<()> {
    under_load(stage, |stage, node| stage.world.daemon(node)?.kill())
}

fn stopped_under_load(stage: &mut Stage) -> Result<()> {
    under_load(stage, |stage, node| stage.world.daemon(node)?.stop())
}

fn under_load(stage: &mut Stage, end: fn(&mut Stage, usize) -> Result<()>) -> Result<()> {
    let jobs = jobs(stage)?;
    let more = |moment: &str| {
        let start: Vec<_> = jobs.iter().map(|(_, job)| job.look()).collect::<Result<_>>()?;
        jobs.iter().zip(&start).try_for_each(|((what, job), start)| {
            no_failure(what, &until_more_than(start, job, 25)?).with_context(|| moment.to_owned())
        })
    };
    more("before")?;
    (1..=2).try_for_each(|node| end(stage, node))?;
    more("while the daemons are down")?;
    (1..=2).try_for_each(|node| stage.world.restart(node))?;
    more("after the restart")
}

fn pod_without_daemon(stage: &mut Stage) -> Result<()> {
    stage.world.daemon(1)?.kill()?;
    stage.set_backends(&["far"])?; // Nobody reads this before the restart.
    stage.world.topology.node_mut(1).add_pod("late")?;
    for family in Family::BOTH {
        let to = stage.cluster_ip(family);
        // On a busy machine the very first packet over a new link is sometimes lost, as one over any new interface may be.
        wait::until_true("the new pod is served", CHANGE_LIMIT, || {
            stage.agent("late")?.ask(Via::Tcp, to, 1).map(|_| true)
        })?;
        for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
            stage
                .agent("late")?
                .ask(via, to, 5)
                .with_context(|| format!("{via} to {to} without a daemon"))?;
        }
    }
    stage.world.restart(1)?;
    stage.served_at_cluster_ip("far", "late")
}

fn relinked(stage: &mut Stage) -> Result<()> {
    stage.set_backends(&["far"])?;
    stage.world.daemon(1)?.kill()?;
    stage.world.topology.node(1).relink("pod")?;
    stage.world.restart(1)?;
    stage.served_at_cluster_ip("far", "pod")
}
