//! The daemon dies and is restarted; the traffic must not be disturbed.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_common::abi::{limits, names};
use svc_ctl::dataplane::pins::Pins;
use svc_ctl::dataplane::sys;
use svc_tests::agent::{Job, Via};
use svc_tests::bpffs::BpfFs;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, no_failure, scenario, until_more, until_more_than};
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;

/// On a busy machine: twice the time to load every attached program.
const RESIZE_LIMIT: Duration = Duration::from_secs(120);

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "a killed daemon disturbs no connection, open or new, routed (SEM-261)",
            routed,
            killed_under_load,
        ),
        scenario(
            "a killed daemon disturbs no connection, open or new, bridged (SEM-261)",
            bridged,
            killed_under_load,
        ),
        scenario(
            "a daemon that was killed and finds a table's pin missing disturbs no connection, open or new",
            routed,
            torn_under_load,
        ),
        scenario("an orderly stop disturbs no connection, open or new", routed, stopped_under_load),
        scenario(
            "a flow table of another size disturbs no connection, open or new",
            routed,
            resized_under_load,
        ),
        scenario("tables that grow are missed by no connection, open or new", routed, grown_under_load),
        scenario(
            "deleted pins are missed by no connection, and come back (SEM-265)",
            routed,
            unpinned_under_load,
        ),
        scenario(
            "a bpffs that is unmounted and mounted again is missed by no connection, and its pins come back (SEM-265)",
            routed,
            unmounted_under_load,
        ),
        scenario("flows that the kernel evicts from a full table are counted", small_table, evicted),
        scenario("a pod created while the daemon is down is served", routed, pod_without_daemon),
        scenario(
            "a pod created while the daemon is down is served by socket hooks that always serve pods",
            pod_sockets,
            pod_without_daemon,
        ),
        scenario(
            "a pod that dialled before the daemon stopped is served at its interface meanwhile",
            routed,
            pod_that_dialled_before,
        ),
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

fn testbed(test: &str, shape: Shape, flags: Flags) -> Result<Testbed> {
    Testbed::new(test, Options { shape, ..Options::default() }, flags, &["near", "far"])
}

fn routed(test: &str) -> Result<Testbed> {
    testbed(test, Shape::Routed, Flags::default())
}

fn bridged(test: &str) -> Result<Testbed> {
    testbed(test, Shape::Bridged, Flags::default())
}

fn small_table(test: &str) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, Options::default())?;
    testbed.set_backends(&["near"])?;
    testbed.world.start_with(Flags::default(), &["--flow-table-size", "1024"])?;
    Ok(testbed)
}

fn pod_sockets(test: &str) -> Result<Testbed> {
    testbed(test, Shape::Routed, Flags { pod_sockets: true, ..Flags::default() })
}

/// Open connections and new ones, from clients of every kind.
fn jobs(testbed: &Testbed) -> Result<Vec<(String, Job)>> {
    let mut jobs = Vec::new();
    for family in Family::BOTH {
        let (cluster_ip, node_port) = (testbed.cluster_ip(family), testbed.node_port(family));
        for (client, to) in [("pod", cluster_ip), ("node1", cluster_ip), ("client", node_port)] {
            let agent = testbed.agent(client)?;
            jobs.push((format!("open connection of {client} to {to}"), agent.start_stream(to, 50)?));
            for via in [Via::Tcp, Via::UdpConnected] {
                jobs.push((format!("new {via} of {client} to {to}"), agent.start_load(via, to, 50)?));
            }
        }
    }
    Ok(jobs)
}

fn killed_under_load(testbed: &mut Testbed) -> Result<()> {
    under_load(testbed, |testbed, node| testbed.world.daemon(node)?.kill())
}

fn torn_under_load(testbed: &mut Testbed) -> Result<()> {
    under_load(testbed, |testbed, node| {
        testbed.world.daemon(node)?.kill()?;
        let pins = Pins::existing(testbed.world.daemon(node)?.pins())?;
        Ok(fs::remove_file(pins.map(names::SELECTION))?)
    })
}

fn stopped_under_load(testbed: &mut Testbed) -> Result<()> {
    under_load(testbed, |testbed, node| testbed.world.daemon(node)?.stop())
}

fn under_load(testbed: &mut Testbed, end: fn(&mut Testbed, usize) -> Result<()>) -> Result<()> {
    let jobs = jobs(testbed)?;
    let more = |moment: &str| {
        let start: Vec<_> = jobs.iter().map(|(_, job)| job.look()).collect::<Result<_>>()?;
        jobs.iter().zip(&start).try_for_each(|((what, job), start)| {
            no_failure(what, &until_more_than(start, job, 25)?).with_context(|| moment.to_owned())
        })
    };
    more("before")?;
    (1..=2).try_for_each(|node| end(testbed, node))?;
    more("while the daemons are down")?;
    (1..=2).try_for_each(|node| testbed.world.restart(node))?;
    more("after the restart")
}

/// All replies so far must have been correct.
fn none_failed(jobs: Vec<(String, Job)>) -> Result<()> {
    jobs.into_iter().try_for_each(|(what, job)| no_failure(&what, &job.stop()?))
}

/// Long load on nodes without a CNI's masquerade.
fn lasting_jobs(testbed: &Testbed) -> Result<Vec<(String, Job)>> {
    testbed.world.end_cni_masquerade()?;
    jobs(testbed)
}

fn resized_under_load(testbed: &mut Testbed) -> Result<()> {
    let jobs = lasting_jobs(testbed)?;
    jobs.iter().try_for_each(|(_, job)| until_more(job, 25).map(|_| ()))?;
    for size in [131_072, 65_536] {
        for node in 1..=2 {
            testbed.world.daemon(node)?.kill()?;
            testbed.world.daemon(node)?.more = vec!["--flow-table-size".to_owned(), size.to_string()];
            testbed.world.restart(node)?;
        }
        for node in 1..=2 {
            let pins = Pins::existing(testbed.world.daemon(node)?.pins())?;
            wait::until_true("the tables are replaced", RESIZE_LIMIT, || {
                let flows = sys::map_info(sys::open_pin(&pins.map(names::FLOWS4))?.as_fd())?;
                let is_carried = pins.map(names::CARRIED4).exists() || pins.map(names::CARRIED6).exists();
                Ok(flows.max_entries == size && !is_carried && !pins.staging().exists())
            })?;
        }
        jobs.iter().try_for_each(|(_, job)| until_more(job, 25).map(|_| ()))?;
    }
    none_failed(jobs)
}

/// Services with a load-balancer address and sixty endpoints each: more than the first tables of backends and of
/// Maglev pages hold.
fn many_services() -> String {
    let service = |n: usize| {
        let (a, b) = (n / 250, n % 250 + 1);
        let endpoint = |k: usize| format!("{{addresses: [10.{}.{a}.{b}]}}", 130 + k);
        let endpoints: Vec<String> = (0..60).map(endpoint).collect();
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: many-{n}}}\n\
             spec: {{type: LoadBalancer, clusterIP: 10.120.{a}.{b}, ports: [{{port: 80}}]}}\n\
             status: {{loadBalancer: {{ingress: [{{ip: 198.18.{a}.{b}}}]}}}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: many-{n}, labels: {{kubernetes.io/service-name: many-{n}}}}}\naddressType: IPv4\n\
             ports: [{{name: '', port: 8080}}]\nendpoints: [{}]\n",
            endpoints.join(", ")
        )
    };
    (0..1_100).map(service).collect()
}

fn grown_under_load(testbed: &mut Testbed) -> Result<()> {
    let jobs = lasting_jobs(testbed)?;
    jobs.iter().try_for_each(|(_, job)| until_more(job, 25).map(|_| ()))?;
    testbed.world.folder.write("many.yaml", &many_services())?;
    for node in 1..=2 {
        let pins = Pins::existing(testbed.world.daemon(node)?.pins())?;
        let entries =
            |name: &str| anyhow::Ok(sys::map_info(sys::open_pin(&pins.map(name))?.as_fd())?.max_entries);
        wait::until_true("the tables have grown", RESIZE_LIMIT, || {
            let grown =
                entries(names::BACKENDS4)? > limits::BACKENDS && entries(names::MAGLEV)? > limits::MAGLEV;
            Ok(grown && !pins.staging().exists())
        })?;
        wait::until_true("every Service is served", RESIZE_LIMIT, || {
            let status = testbed.world.daemon(node)?.status()?;
            // Other complaints (a FORWARD chain that drops) have nothing to do with capacity.
            let complaints = &status["complaints"];
            let conflicts = complaints["by_kind"]["conflict"].as_u64().unwrap_or_default();
            Ok(status["unserved"] == 0
                && complaints["total"] == conflicts
                && status["pending_since_unix_ms"].is_null())
        })?;
    }
    jobs.iter().try_for_each(|(_, job)| until_more(job, 25).map(|_| ()))?;
    none_failed(jobs)
}

fn unpinned_under_load(testbed: &mut Testbed) -> Result<()> {
    pinned_anew(testbed, |dir| Ok(BpfFs::pins(dir).iter().try_for_each(fs::remove_file)?))
}

fn unmounted_under_load(testbed: &mut Testbed) -> Result<()> {
    pinned_anew(testbed, |dir| BpfFs::renew(dir.parent().context("the daemons' bpffs")?))
}

/// Changes the folder of a daemon's pins, and checks that every link and map is pinned again.
fn pinned_anew(testbed: &mut Testbed, harm: fn(&Path) -> Result<()>) -> Result<()> {
    let jobs = lasting_jobs(testbed)?;
    jobs.iter().try_for_each(|(_, job)| until_more(job, 25).map(|_| ()))?;
    let dirs: Vec<PathBuf> =
        (1..=2).map(|node| Ok(testbed.world.daemon(node)?.pins().to_owned())).collect::<Result<_>>()?;
    let is_needed = |pin: &PathBuf| !pin.iter().any(|part| part == "programs");
    let pins: Vec<PathBuf> = dirs.iter().flat_map(|dir| BpfFs::pins(dir)).filter(is_needed).collect();
    ensure!(!pins.is_empty(), "nothing was pinned");
    dirs.iter().try_for_each(|dir| harm(dir))?;
    wait::until_true("links and maps are pinned", Duration::from_secs(10), || {
        Ok(pins.iter().all(|pin| pin.exists()))
    })?;
    jobs.iter().try_for_each(|(_, job)| until_more(job, 25).map(|_| ()))?;
    none_failed(jobs)
}

/// More flows than the smallest flow table holds.
const FLOWS: u32 = 3_000;

fn evicted(testbed: &mut Testbed) -> Result<()> {
    // A query and its answer would not reach the flow table.
    testbed.agent("pod")?.ask(Via::Tcp, testbed.cluster_ip(Family::V4), FLOWS)?;
    let daemon = testbed.world.daemon(1)?;
    wait::until_true("evicted flows are counted", Duration::from_secs(60), || {
        Ok(daemon.status()?["counters"]["flow_evicted_v4"].as_u64().is_some_and(|count| count > 0))
    })
}

/// The socket hooks serve new pods when the lease of a killed daemon has ended, after five seconds; this is for slow
/// machines.
const LEASE_LIMIT: Duration = Duration::from_secs(20);

fn pod_without_daemon(testbed: &mut Testbed) -> Result<()> {
    testbed.world.daemon(1)?.kill()?;
    testbed.set_backends(&["far"])?; // No daemon reads this before the restart.
    testbed.world.topology.node_mut(1).add_pod("late")?;
    for family in Family::BOTH {
        let to = testbed.cluster_ip(family);
        wait::until_true("the new pod is served", LEASE_LIMIT, || {
            testbed.agent("late")?.ask(Via::Tcp, to, 1).map(|_| true)
        })?;
        for via in [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected] {
            testbed
                .agent("late")?
                .ask(via, to, 5)
                .with_context(|| format!("{via} to {to} without a daemon"))?;
        }
    }
    testbed.world.restart(1)?;
    testbed.served_at_cluster_ip("far", "late")
}

/// The socket hooks do not know the pod's open flows and its session affinity.
fn pod_that_dialled_before(testbed: &mut Testbed) -> Result<()> {
    testbed.agent("pod")?.ask(Via::Tcp, testbed.cluster_ip(Family::V4), 1)?;
    await_new_flows(testbed, 1)?;
    testbed.world.await_renewals()?;
    testbed.world.daemon(1)?.stop()?;
    for family in Family::BOTH {
        testbed.agent("pod")?.ask(Via::Tcp, testbed.cluster_ip(family), 5)?;
    }
    testbed.world.restart(1)?;
    await_new_flows(testbed, 11)
}

/// Until the status, which is written now and then and names no counter of zero, counts so many new flows on node 1.
fn await_new_flows(testbed: &mut Testbed, wanted: u64) -> Result<()> {
    wait::until_true(&format!("{wanted} flows began at the pod's interface"), LEASE_LIMIT, || {
        Ok(testbed.world.daemon(1)?.status()?["counters"]["flow_new"].as_u64() == Some(wanted))
    })
}

fn relinked(testbed: &mut Testbed) -> Result<()> {
    testbed.set_backends(&["far"])?;
    testbed.world.daemon(1)?.kill()?;
    testbed.world.topology.node(1).relink("pod")?;
    testbed.world.restart(1)?;
    testbed.served_at_cluster_ip("far", "pod")
}
