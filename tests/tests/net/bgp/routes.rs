//! Routes of the kernel that a routing daemon on the node announces: BIRD on node1, FRR on node2. docs/loadbalancer.md has both
//! configurations.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::testbed::{Testbed, scenario_unless};
use svc_tests::topology::Family;
use svc_tests::{command, wait};

use super::lab::{Lab, frr, hops, set};
use super::router::{Kind, Router};

const LIMIT: Duration = Duration::from_secs(30);
/// The page with the configurations.
const PAGE: &str = include_str!("../../../../docs/loadbalancer.md");

pub fn trial() -> Trial {
    scenario_unless(
        || Ok(Kind::Frr.missing().or_else(|| Kind::Bird.missing())),
        "with routes of the kernel, BIRD and FRR of the nodes announce an address, and no longer after the node is excluded or svc is cleaned up",
        set,
        act,
    )
}

/// A block of the page after this line, for a node.
fn documented(title: &str, node: usize) -> Result<String> {
    let (_, rest) =
        PAGE.split_once(&format!("```\n# {title}\n")).with_context(|| format!("no block {title:?}"))?;
    let (block, _) = rest.split_once("```").context("the block does not end")?;
    Ok(block
        .replace("192.0.2.1", &format!("192.0.2.{node}"))
        .replace("2001:db8:1::1", &format!("2001:db8:1::{node}")))
}

fn act(testbed: &mut Testbed) -> Result<()> {
    let mut lab = Lab::with(testbed, Kind::Frr, &frr(&[]))?;
    lab.write_configuration("{mode: routes}")?;
    lab.start(&[1, 2])?;
    lab.write(&["near", "far"], "Cluster")?;

    let bird = documented("BIRD", 1)?;
    let bird = Router::start(Kind::Bird, &lab.testbed.world.topology.node(1).host.netns, &bird)?;
    has(&lab, &[1]).with_context(|| bird.log())?;
    lab.is_dialled()?;

    // FRR reads the main table.
    lab.write_configuration("{mode: routes, routes: {table: 254}}")?;
    has(&lab, &[])?;
    drop(bird);
    let frr = documented("FRR", 2)?;
    let frr = Router::start(Kind::Frr, &lab.testbed.world.topology.node(2).host.netns, &frr)?;
    has(&lab, &[2]).with_context(|| frr.log())?;
    lab.is_dialled()?;
    ensure!(in_kernel(&lab, 1, "main")? == 2, "node1 has no routes in its main table");
    ensure!(in_kernel(&lab, 1, "179")? == 0, "routes are left in the table of before");

    lab.exclude(Some(2))?;
    has(&lab, &[])?;
    lab.exclude(None)?;
    has(&lab, &[2])?;

    lab.testbed.world.daemon(2)?.stop()?;
    let left = in_kernel(&lab, 2, "main")?;
    ensure!(left == 2, "without its daemon node2 has {left} routes");
    let (node, daemon) = lab.testbed.world.on_node(2)?;
    daemon.cleanup(node)?;
    has(&lab, &[])?;
    let left = in_kernel(&lab, 2, "main")?;
    ensure!(left == 0, "after cleanup node2 has {left} routes");
    Ok(())
}

/// The router in the middle has the routes of these nodes.
fn has(lab: &Lab<'_>, nodes: &[usize]) -> Result<()> {
    wait::until_true(&format!("the router has the routes of {nodes:?}"), LIMIT, || {
        let table = lab.router.table()?;
        let found = Family::BOTH.map(|family| hops(&table, family));
        let expected: [BTreeSet<IpAddr>; 2] =
            Family::BOTH.map(|family| nodes.iter().map(|node| lab.node(*node, family)).collect());
        ensure!(found == expected, "{table:?}");
        Ok(true)
    })
}

/// Number of svc's routes in a table of a node.
fn in_kernel(lab: &Lab<'_>, node: usize, table: &str) -> Result<usize> {
    let netns = &lab.testbed.world.topology.node(node).host.netns;
    let list = |family: &str| {
        let mut ip = netns.command("ip")?;
        // A table that never had a route is an error.
        let listed = command::run(ip.args([family, "route", "show", "table", table, "proto", "179"]));
        Ok::<usize, anyhow::Error>(listed.map_or(0, |text| text.lines().count()))
    };
    Ok(list("-4")? + list("-6")?)
}
