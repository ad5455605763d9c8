//! Load-balancer addresses announced by BGP: three nodes, a router that runs FRR, BIRD or GoBGP, and a client behind it.

mod faults;
mod lab;
mod router;
mod routes;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Job;
use svc_tests::testbed::{Testbed, scenario_unless};
use svc_tests::topology::Family;
use svc_tests::wait;

use self::lab::{Lab, NETS, NODES, frr_by, set};
use self::router::Kind;

/// A changed route is at the router within this time; the numbers that count are printed.
const LIMIT: Duration = Duration::from_secs(20);
/// The longest time without an answer when a node's last endpoint goes: the router's change is in it. On a busy machine.
const LONGEST_GAP: Duration = Duration::from_millis(1_000);

pub fn trials() -> Vec<Trial> {
    let needs = |kind: Kind| move || Ok(kind.missing());
    let mut trials = vec![
        scenario_unless(
            needs(Kind::Frr),
            "FRR gets the routes of all nodes, keeps them without a daemon, and loses those of a node that is excluded (SEM-312)",
            set,
            followed,
        ),
        scenario_unless(
            needs(Kind::Frr),
            "under policy Local the route follows the endpoint from node to node, in FRR (SEM-312)",
            set,
            moved,
        ),
        scenario_unless(
            needs(Kind::Frr),
            "over a session by IPv6 an aggregate is announced once, with its communities, and a packet to an unused address of it is dropped by its node (SEM-315)",
            set,
            aggregated,
        ),
        scenario_unless(
            needs(Kind::Bird),
            "BIRD gets the routes of both families with a password, keeps them without a daemon, and loses them when it has to (SEM-312)",
            set,
            |testbed| shared(testbed, Kind::Bird),
        ),
        scenario_unless(
            needs(Kind::GoBgp),
            "GoBGP within the autonomous system gets the routes of both families with their preference, and loses them when it has to (SEM-312)",
            set,
            |testbed| shared(testbed, Kind::GoBgp),
        ),
    ];
    trials.extend([faults::trial(), routes::trial()]);
    trials
}

/// The router's table has these nodes for the Service's addresses of both families.
fn has_routes(lab: &Lab, nodes: &[usize]) -> Result<()> {
    wait::until_true(&format!("the router has the routes of {nodes:?}"), LIMIT, || {
        let table = lab.router.table()?;
        let found = Family::BOTH.map(|family| lab::hops(&table, family));
        let expected = Family::BOTH.map(|family| nodes.iter().map(|node| lab.node(*node, family)).collect());
        ensure!(found == expected, "{table:?}");
        Ok(true)
    })
    .with_context(|| lab.router.log())
}

fn followed(testbed: &mut Testbed) -> Result<()> {
    let mut lab = Lab::new(testbed, Kind::Frr)?;
    lab.start(&NODES)?;
    lab.write(&["near", "far"], "Cluster")?;
    has_routes(&lab, &NODES)?;
    lab.is_dialled()?;
    let shown = lab.lb(1)?;
    ensure!(shown["bgp"]["peers"][0]["state"] == "established", "{shown}");
    ensure!(shown["bgp"]["addresses"][0]["peers"][0] == "router", "{shown}");
    eprintln!("{}\n{}", lab.router.vtysh("show bgp ipv4 unicast")?, lab.lb_text(1)?);

    // The daemon of the node that the client's packets go to is killed; the router keeps its routes.
    let jobs = lab.ask()?;
    for node in NODES {
        lab.testbed.world.daemon(node)?.kill()?;
    }
    let kept = Instant::now();
    while kept.elapsed() < Duration::from_secs(3) {
        let table = lab.router.table()?;
        ensure!(lab::hops(&table, Family::V4).len() == NODES.len(), "routes are gone: {table:?}");
        more(&jobs)?;
    }
    for node in NODES {
        lab.testbed.world.restart(node)?;
        wait::until_true("the session is back", LIMIT, || {
            Ok(lab.lb(node)?["bgp"]["peers"][0]["state"] == "established")
        })?;
    }
    has_routes(&lab, &NODES)?;
    more(&jobs)?;
    report("all daemons are killed and start again", jobs, Duration::from_millis(200))?;

    // A session with other settings takes the place of the one before.
    let jobs = lab.ask()?;
    more(&jobs)?;
    let before = lab.lb(1)?["bgp"]["peers"][0]["sinceUnixMs"].clone();
    lab.write_configuration(
        "{localAS: 64512, peers: [{name: router, address: 192.0.2.254, peerAS: 64500, holdTime: 30}]}",
    )?;
    wait::until_true("a new session is established", LIMIT, || {
        let peer = lab.lb(1)?["bgp"]["peers"][0].clone();
        Ok(peer["state"] == "established" && peer["sinceUnixMs"] != before)
    })?;
    has_routes(&lab, &NODES)?;
    more(&jobs)?;
    report("the settings of the sessions change", jobs, Duration::from_millis(200))?;

    // The excluded node withdraws first and serves on.
    for node in NODES {
        let jobs = lab.ask()?;
        more(&jobs)?;
        let excluded = Instant::now();
        lab.exclude(Some(node))?;
        let others: Vec<usize> = NODES.into_iter().filter(|other| *other != node).collect();
        has_routes(&lab, &others)?;
        eprintln!("node{node} is excluded: its routes are gone after {} ms", excluded.elapsed().as_millis());
        more(&jobs)?;
        report(&format!("node{node} is excluded"), jobs, Duration::from_millis(200))?;
        lab.exclude(None)?;
        has_routes(&lab, &NODES)?;
    }
    Ok(())
}

fn moved(testbed: &mut Testbed) -> Result<()> {
    let mut lab = Lab::new(testbed, Kind::Frr)?;
    lab.start(&NODES)?;
    lab.write(&["near"], "Local")?;
    has_routes(&lab, &[1])?;
    lab.is_dialled()?;
    for (server, node) in [("far", 2), ("near", 1)] {
        let jobs = lab.ask()?;
        more(&jobs)?;
        lab.write(&[server], "Local")?;
        has_routes(&lab, &[node])?;
        more(&jobs)?;
        report(&format!("the endpoint moves to node{node}"), jobs, LONGEST_GAP)?;
    }
    lab.write(&[], "Local")?;
    has_routes(&lab, &[])?;
    let shown = lab.lb(1)?;
    ensure!(shown["bgp"]["addresses"][0]["whyNot"] == "no endpoint is ready", "{shown}");
    Ok(())
}

fn aggregated(testbed: &mut Testbed) -> Result<()> {
    let router = frr_by(Family::V6, &["password secret", "ttl-security hops 1"]);
    let mut lab = Lab::with(testbed, Kind::Frr, &router)?;
    lab.write_configuration(
        "{localAS: 64512, peers: [{name: router, address: '2001:db8:1::fe', peerAS: 64500, password: secret, ttlSecurity: 1}], \
         advertisements: [{aggregationLength: 29, aggregationLengthV6: 125, communities: ['64512:100', 'large:64512:1:2']}]}",
    )?;
    lab.start(&NODES)?;
    lab.write(&["near", "far"], "Cluster")?;
    wait::until_true("the router has both aggregates of all nodes", LIMIT, || {
        let table = lab.router.table()?;
        let whole = NETS.map(|net| table.get(net).map_or(0, |hops| hops.len()));
        ensure!(whole == [NODES.len(); 2] && table.len() == NETS.len(), "{table:?}");
        Ok(true)
    })?;
    for (family, net) in [("ipv4", NETS[0]), ("ipv6", NETS[1])] {
        let shown = lab.router.vtysh(&format!("show bgp {family} unicast {net}"))?;
        for community in ["Community: 64512:100", "Large Community: 64512:1:2"] {
            ensure!(shown.contains(community), "{net} without {community}: {shown}");
        }
    }
    lab.is_dialled()?;
    for family in Family::BOTH {
        let before = lab.dropped()?;
        lab.is_unanswered(family)?;
        wait::until_true("a node counts the drop", LIMIT, || Ok(lab.dropped()? > before))?;
    }
    Ok(())
}

fn shared(testbed: &mut Testbed, kind: Kind) -> Result<()> {
    let mut lab = Lab::new(testbed, kind)?;
    lab.start(&NODES)?;
    lab.write(&["near", "far"], "Cluster")?;
    has_routes(&lab, &NODES)?;
    // GoBGP does not write the kernel's routing table.
    if kind != Kind::GoBgp {
        lab.is_dialled()?;
        let jobs = lab.ask()?;
        more(&jobs)?;
        lab.testbed.world.daemon(1)?.kill()?;
        more(&jobs)?;
        has_routes(&lab, &NODES)?;
        lab.testbed.world.restart(1)?;
        has_routes(&lab, &NODES)?;
        more(&jobs)?;
        report(&format!("{kind:?}: the daemon of node1 is killed and starts again"), jobs, LONGEST_GAP)?;
    }
    if kind == Kind::GoBgp {
        let rib = lab.router.gobgp(&["global", "rib", "-a", "ipv4"])?;
        let paths: Vec<_> =
            rib.as_object().into_iter().flatten().flat_map(|(_, paths)| paths.as_array()).flatten().collect();
        let is_preferred = |path: &&serde_json::Value| {
            path["attrs"].as_array().into_iter().flatten().any(|a| a["type"] == 5 && a["value"] == 200)
        };
        ensure!(!paths.is_empty() && paths.iter().all(is_preferred), "{rib}");
    }
    lab.exclude(Some(1))?;
    has_routes(&lab, &[2, 3])?;
    lab.exclude(None)?;
    has_routes(&lab, &NODES)?;
    // A peer that is no longer configured forgets everything at once.
    lab.write_configuration("{localAS: 64512}")?;
    has_routes(&lab, &[])
}

/// Waits for further answers of each job.
fn more(jobs: &[Job]) -> Result<()> {
    for job in jobs {
        let before = job.look()?.ok;
        wait::until_true("the client has answers", LIMIT, || Ok(job.look()?.ok >= before + 50))?;
    }
    Ok(())
}

/// Ends the jobs, prints each one's longest time without an answer, and fails if that is longer than the limit.
fn report(what: &str, jobs: Vec<Job>, limit: Duration) -> Result<()> {
    for (family, job) in Family::BOTH.into_iter().zip(jobs) {
        let report = job.stop()?;
        eprintln!(
            "{what}: {family:?}: the longest time without an answer is {} ms, {} of {} requests failed",
            report.longest_gap.as_millis(),
            report.failed,
            report.ok + report.failed
        );
        ensure!(report.longest_gap <= limit, "{what}: {family:?}: no answer for {:?}", report.longest_gap);
    }
    Ok(())
}
