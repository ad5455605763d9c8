//! An endpoint that moves to another node with its address.

use anyhow::{Context as _, Result, ensure};
use svc_tests::agent::Job;
use svc_tests::manifests::Service;
use svc_tests::testbed::{no_failure, until_more};
use svc_tests::topology::{Addrs, Family};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::case::{Case, Row, Target, Way};
use crate::lab::Lab;

const CLIENTS: [(&str, Target); 2] =
    [("pod", Target::ClusterIp("near")), ("client", Target::NodePort("near"))];

pub fn cases() -> Vec<Case> {
    let rows = || CLIENTS.map(|(client, to)| Row::answered(client, to, "near")).to_vec();
    let moved = |flags, sentence, each| Case {
        flags,
        prepare: let_pods_move,
        each: Some(each),
        ..Case::new("Y4", sentence, rows())
    };
    vec![
        moved(
            &[],
            "the flows of an endpoint that moves to another node go on or end",
            (
                "open flows go on, and new ones are answered; svc: TCP connections from outside are reset",
                |lab, way| moves(lab, way, way == Way::Svc),
            ),
        ),
        moved(
            &["--masquerade-local-backends"],
            "with --masquerade-local-backends the flows of an endpoint that moves to another node go on",
            ("open flows go on, and new ones are answered", |lab, way| moves(lab, way, false)),
        ),
    ]
}

/// The pod's answers leave by node2, so that node1's conntrack misses them, and finds the client's next segments invalid.
fn let_pods_move(lab: &mut Lab) -> Result<()> {
    lab.forward_all()?;
    let topology = &lab.world.topology;
    // Node1 tells the client that node2 is nearer to the pod. The next variant would begin with that route.
    for host in [&topology.client, topology.host("pod")?] {
        let keys = ["ipv4/conf/all", "ipv4/conf/eth0", "ipv6/conf/all", "ipv6/conf/eth0"]
            .map(|of| format!("net/{of}/accept_redirects"));
        host.netns.sysctl(&keys.each_ref().map(|key| (key.as_str(), "0")))?;
    }
    // kube-proxy masquerades what comes from outside. The control has it so for this case, since the pod's answers would
    // go past node1 otherwise.
    let Addrs { v4, v6 } = topology.node(1).host.addrs;
    topology.node(1).host.netns.nft(&format!(
        "table inet like_kube_proxy {{
            chain post {{
                type nat hook postrouting priority 80;
                ct status dnat ct original ip daddr {v4} masquerade
                ct status dnat ct original ip6 daddr {v6} masquerade
            }}
        }}"
    ))
}

/// Moves the pod to node2 and back, with open flows at the first move.
fn moves(lab: &mut Lab, way: Way, are_reset: bool) -> Result<()> {
    let mut flows = Vec::new();
    for (client, target) in CLIENTS {
        for family in Family::BOTH {
            let to = lab.dialled(way, target, "near", family)?;
            let agent = &lab.world.topology.host(client)?.agent;
            let is_reset = are_reset && client == "client";
            flows.push((format!("{client} {to} TCP"), is_reset, agent.start_stream(to, 20)?));
            flows.push((format!("{client} {to} UDP"), false, agent.start_redialling(to, 20)?));
        }
    }
    flows.iter().try_for_each(|(what, _, job)| no_failure(what, &until_more(job, 1)?))?;
    relocate(lab, way, 1, 2)?;
    let judged = flows.iter().try_for_each(|(what, is_reset, job)| goes_on(what, *is_reset, job));
    let rows = CLIENTS.map(|(client, to)| Row::answered(client, to, "near"));
    let judged = judged.and_then(|()| lab.soon(way, &rows));
    for (_, _, job) in flows {
        job.stop()?;
    }
    relocate(lab, way, 2, 1)?;
    judged?;
    lab.soon(way, &rows)
}

fn goes_on(what: &str, is_reset: bool, job: &Job) -> Result<()> {
    if is_reset {
        return wait::until_true(&format!("{what} is reset"), CHANGE_LIMIT, || Ok(job.look()?.resets > 0));
    }
    // Packets that are sent during the move are lost.
    let before = job.look()?;
    wait::until_true(&format!("{what} goes on"), CHANGE_LIMIT, || {
        let now = job.look()?;
        ensure!(now.resets == 0, "{now:?}");
        Ok(now.ok >= before.ok + 5)
    })
}

/// The pod's link, the routes to it, and its node in the EndpointSlice.
fn relocate(lab: &Lab, way: Way, from: usize, to: usize) -> Result<()> {
    let topology = &lab.world.topology;
    let pod = topology.node(1).pods.get("near").context("no pod near")?;
    let (old, new) = (topology.node(from), topology.node(to));
    old.host.netns.ip(&format!("link delete {}", pod.interface))?;
    let Addrs { v4, v6 } = pod.host.addrs;
    let via = topology.node(2).host.addrs;
    // The routes of the pod's network lead to node1.
    let change = if to == 2 { "add" } else { "delete" };
    topology
        .node(1)
        .host
        .netns
        .ip(&format!("route {change} {v4}/32 via {}\nroute {change} {v6}/128 via {}", via.v4, via.v6))?;
    new.adopt(pod)?;
    if way == Way::Svc {
        let mut service: Service = lab.service("near")?.clone();
        service.backends.iter_mut().for_each(|backend| backend.node = new.name().to_owned());
        lab.world.folder.write_service(&service)?;
    }
    Ok(())
}
