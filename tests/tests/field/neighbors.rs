//! Neighbors that change their MAC.

use std::time::Duration;

use anyhow::Result;
use svc_tests::agent::Via;
use svc_tests::testbed::until_more;
use svc_tests::topology::Family;
use svc_tests::wait;

use crate::case::{Case, Row, Target, Way};
use crate::lab::Lab;

/// The daemon looks every 5 s; the kernel waits 5 s for a sign of life and probes for 3 s.
const PROBED: Duration = Duration::from_secs(40);

pub fn cases() -> Vec<Case> {
    let rows = || vec![Row::answered("client", Target::NodePort("far"), "far")];
    let case = |of: &str, each: fn(&mut Lab, Way) -> Result<()>| Case {
        each: Some((
            "through the proxy, new flows and open ones are answered after node1 has the wrong MAC",
            each,
        )),
        ..Case::new(
            "R08",
            &format!("a stale neighbor with another MAC is found again, also by open flows: {of}"),
            rows(),
        )
    };
    vec![
        case("the client", |lab, way| found_again(lab, way, "client")),
        case("the backend's node", |lab, way| found_again(lab, way, "node2")),
    ]
}

/// Gives node1 a wrong MAC of a neighbor, which the kernel does not use before it has probed it. New flows and those
/// that are open find the right one.
fn found_again(lab: &mut Lab, way: Way, neighbor: &str) -> Result<()> {
    // Without a proxy packets do not pass node1.
    if way == Way::Direct {
        return Ok(());
    }
    let topology = &lab.world.topology;
    let mut open = Vec::new();
    for family in Family::BOTH {
        let to = lab.dialled(way, Target::NodePort("far"), "far", family)?;
        for via in [Via::UdpConnected, Via::UdpUnconnected] {
            let job = topology.client.agent.start_datagrams(via, to, 20)?;
            until_more(&job, 1)?;
            open.push((format!("{via} {to}"), job));
        }
    }
    let addresses = topology.host(neighbor)?.addrs;
    for family in Family::BOTH {
        let address = addresses.of(family);
        topology
            .node(1)
            .host
            .netns
            .ip(&format!("neigh replace {address} lladdr 02:00:00:00:99:99 dev eth0 nud stale"))?;
    }
    lab.within(PROBED, way, &[Row::answered("client", Target::NodePort("far"), "far")])?;
    open.into_iter().try_for_each(|(what, job)| {
        let before = job.look()?.ok;
        wait::until_true(&format!("{what} goes on"), PROBED, || Ok(job.look()?.ok > before + 5))
    })
}
