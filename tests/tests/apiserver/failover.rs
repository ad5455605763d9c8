//! A load-balancer address and the failure of its node: three nodes and a client on a switch, an API server, and the time for which the client
//! has no answer. docs/loadbalancer.md has the table that this prints.

mod answers;
mod fault;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use svc_tests::agent::{Job, Report, Via};
use svc_tests::topology::{Addrs, Family};
use svc_tests::{command, wait};

use self::answers::{Count, Observer, Place};
use self::fault::Fault;
use crate::case::Case;
use crate::load_balancer::{give_rights, write_pool};
use crate::objects::PORT;
use crate::plane::SharedControlPlane;
use crate::testbed::Testbed;

const NAME: &str = "failover";
const NODES: [usize; 3] = [1, 2, 3];
/// Datagrams of the client per second. Each waits for its answer until the next one is due.
const RATE: u32 = 100;
const ANSWER_WITHIN: Duration = Duration::from_millis(20);
/// Longer than a node's Lease lasts.
const HOLD: Duration = Duration::from_secs(6);
/// Answers after which a gap is over.
const MORE: u64 = 100;
/// The minute between two announcements, and time for a slow machine.
const LIMIT: Duration = Duration::from_secs(120);
/// The switch, as a host of its own segment.
const SWITCH: Place = Place {
    interface: "front",
    mac: [2, 0, 0xc0, 0, 2, 0xfe],
    addrs: Addrs { v4: Ipv4Addr::new(192, 0, 2, 254), v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 254) },
};

pub fn trials() -> Vec<Trial> {
    let sentence = "a load-balancer address moves when its node fails, and stays when only its daemon or the API server does (SEM-308)";
    vec![Trial::test(sentence, move || -> Result<(), Failed> {
        let testbed = set().map_err(|error| format!("no testbed: {error:#}"))?;
        // The traffic of the testbed passes nodes that fail here, so it is not looked at.
        let outcome = Case::new(&testbed, sentence).and_then(|case| act(&testbed, &case));
        outcome.map_err(|error| format!("{error:#}\n{}", testbed.diagnosis()).into())
    })]
}

/// One line of the table.
struct Measured {
    fault: Fault,
    family: Family,
    /// The client's longest time without an answer, during the fault and at its end.
    gap: Duration,
    gap_at_end: Duration,
    during: Count,
    at_end: Count,
}

fn set() -> Result<Arc<Testbed>> {
    let plane = Arc::new(SharedControlPlane::start(NAME)?);
    give_rights(&plane, NAME)?;
    let path = std::env::temp_dir().join(format!("svc-failover-{}.conf", std::process::id()));
    write_pool(&path, "192.0.2.200/32, \"2001:db8:1::200/128\"")?;
    let path = path.display().to_string();
    let flags = ["--config", path.as_str()];
    let testbed = Testbed::with_flags(NAME, plane, &flags)?;
    testbed.on_world(|world| {
        let mac = svc_ctl::lb::claim::mac_text(SWITCH.mac);
        // The switch forgets link-layer addresses after five seconds.
        world.topology.lan().ip(&format!(
            "link set front address {mac}\nlink set front type bridge ageing_time 500\n\
             link add half type bridge ageing_time 500\nlink set half up"
        ))?;
        world.topology.add_node()
    })?;
    testbed.make_node(3)?;
    testbed.start_daemon_on(2, &flags)?;
    testbed.start_daemon_on(3, &flags)?;
    Ok(Arc::new(testbed))
}

fn act(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let ports = ["TCP", "UDP"].map(|protocol| {
        json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": PORT, "targetPort": testbed.port})
    });
    case.service(
        "web",
        &json!({"type": "LoadBalancer", "selector": {"testbed": testbed.name}, "ports": ports}),
    )?;
    let addresses = wait::until("the Service has an address of each family", LIMIT, || {
        let ingress = case.get("service", "web")?["status"]["loadBalancer"]["ingress"].clone();
        let ips =
            ingress.as_array().into_iter().flatten().filter_map(|entry| entry["ip"].as_str()?.parse().ok());
        let ips: Vec<IpAddr> = ips.collect();
        Ok((ips.len() == Family::BOTH.len()).then_some(ips))
    })?;
    let mut table = Vec::new();
    for fault in Fault::ALL {
        for family in Family::BOTH {
            let is_of = |ip: &&IpAddr| ip.is_ipv4() == (family == Family::V4);
            let address = *addresses.iter().find(is_of).context("no address of the family")?;
            let row = measure(testbed, case, fault, family, address);
            let row = row.with_context(|| format!("{address}: {}", fault.text()))?;
            eprintln!("{}", line(&row));
            table.push(row);
        }
    }
    judge(&table)
}

fn line(row: &Measured) -> String {
    let Measured { fault, family, gap, gap_at_end, during, at_end } = row;
    format!(
        "| {} | {family:?} | {} ms | {} of {} | {} ms | {} of {} |",
        fault.text(),
        gap.as_millis(),
        during.answered_twice,
        during.answered,
        gap_at_end.as_millis(),
        at_end.answered_twice,
        at_end.answered,
    )
}

fn measure(
    testbed: &Testbed,
    case: &Case<'_>,
    fault: Fault,
    family: Family,
    address: IpAddr,
) -> Result<Measured> {
    let owner = common_owner(testbed, address)?;
    // The endpoint is on a node that does not fail.
    let server = if owner == 2 { "near" } else { "far" };
    case.patch("web", &json!({"spec": {"selector": {"testbed": testbed.name, "app": server}}}))?;
    let to = SocketAddr::new(address, PORT);
    let client = testbed.agent("client")?;
    wait::until_true("only the endpoint that stays answers", LIMIT, || {
        let answers = client.ask(Via::UdpUnconnected, to, 8)?;
        Ok(answers.iter().all(|answer| answer.server == server))
    })?;
    let start = || client.start_datagrams_within(ANSWER_WITHIN, Via::UdpUnconnected, to, RATE);

    let (job, observer) = (start()?, observe(testbed, address)?);
    more(&job, 0)?;
    let (before, began) = (job.look()?, Instant::now());
    fault.begin(testbed, owner)?;
    let witness = NODES.into_iter().find(|node| *node != owner).context("no other node")?;
    wait::until_true("the address has the right owner during the fault", LIMIT, || {
        let is_moved = owner_by(testbed, witness, address)?.is_some_and(|now| now != owner);
        Ok(if fault.moves() { is_moved } else { began.elapsed() >= HOLD })
    })?;
    more(&job, if fault.moves() { job.look()?.ok } else { before.ok })?;
    let (report, during) = (job.stop()?, observer.end()?);
    ensure!(
        fault.moves() || owner_by(testbed, witness, address)? == Some(owner),
        "node{owner} has lost the address"
    );

    let (job, observer) = (start()?, observe(testbed, address)?);
    more(&job, 0)?;
    fault.end(testbed, owner)?;
    let after = common_owner(testbed, address)?;
    more(&job, job.look()?.ok)?;
    let (report_at_end, at_end) = (job.stop()?, observer.end()?);
    ensure!(fault.moves() || after == owner, "node{after} has the address of node{owner}");
    let [gap, gap_at_end] = [report.longest_gap, report_at_end.longest_gap];
    Ok(Measured { fault, family, gap, gap_at_end, during, at_end })
}

/// Checks the order of the numbers, which a machine of any speed shows.
fn judge(table: &[Measured]) -> Result<()> {
    for family in Family::BOTH {
        let of = |fault: Fault| {
            let row = table.iter().find(|row| row.family == family && row.fault == fault);
            row.with_context(|| format!("{fault:?} was not measured"))
        };
        let mut longest = Duration::ZERO;
        for unseen in [Fault::NodeDead, Fault::NodeSuspended, Fault::SegmentCut] {
            longest = longest.max(of(unseen)?.gap);
        }
        let seen_at_once =
            [Fault::DaemonKilled, Fault::ApiServerAway, Fault::ApiServerAwayForOwner, Fault::CarrierLost];
        for fault in seen_at_once {
            let gap = of(fault)?.gap;
            ensure!(
                gap < longest,
                "{family:?}: {}: {gap:?}, and at most {longest:?} if a node is gone without a word",
                fault.text()
            );
        }
    }
    for row in table {
        ensure!(row.during.answered > 0 && row.at_end.answered > 0, "no request was sent: {}", line(row));
        ensure!(row.during.answered_twice == 0, "two nodes answered: {}", line(row));
        // Both halves of a cut segment have an owner, and so have a network and a node that slept, until they get each
        // other's messages.
        let may_be_two = matches!(row.fault, Fault::SegmentCut | Fault::NodeSuspended);
        ensure!(may_be_two || row.at_end.answered_twice == 0, "two nodes answered: {}", line(row));
    }
    Ok(())
}

/// Waits for more answers than so many.
fn more(job: &Job, than: u64) -> Result<Report> {
    wait::until("the client has answers", LIMIT, || {
        let now = job.look()?;
        Ok((now.ok >= than + MORE).then_some(now))
    })
}

fn observe(testbed: &Testbed, address: IpAddr) -> Result<Observer> {
    testbed.on_world(|world| Ok(Observer::start(world.topology.lan(), SWITCH, address)))
}

/// The owner of an address, once all nodes name the same.
fn common_owner(testbed: &Testbed, address: IpAddr) -> Result<usize> {
    wait::until("all nodes name the same owner", LIMIT, || {
        let named = NODES.map(|node| owner_by(testbed, node, address));
        let named = named.into_iter().collect::<Result<Vec<_>>>()?;
        let first = named.first().copied().flatten();
        ensure!(named.iter().all(|owner| *owner == first), "{named:?}");
        Ok(first)
    })
}

/// The owner that `svc-ctl lb` of a node names.
fn owner_by(testbed: &Testbed, node: usize, address: IpAddr) -> Result<Option<usize>> {
    let report: Value = testbed.on_world(|world| {
        let (host, daemon) = world.on_node(node)?;
        let mut lb = host.host.command(daemon.binary())?;
        let text = command::run(lb.args(["lb", "-o", "json", "--run-dir"]).arg(daemon.run_dir()))?;
        serde_json::from_str(&text).context("the output of svc-ctl lb")
    })?;
    let rows = report["addresses"].as_array().context("no addresses")?;
    let row = rows.iter().find(|row| row["address"] == address.to_string());
    let owner = row.with_context(|| format!("no {address}"))?["owner"].as_str();
    Ok(NODES.into_iter().find(|node| owner == Some(&testbed.node_name(*node))))
}
