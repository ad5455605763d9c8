//! svc probes Pods of manifests for readiness and nodes for life, and traffic follows the answers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::{Flags, Source};
use svc_tests::manifests::{SERVER_PORT, SERVICE_PORT};
use svc_tests::testbed::{Testbed, no_failure, scenario, until_more};
use svc_tests::topology::{Family, Options, service};
use svc_tests::wait;
use svc_tests::world::{CHANGE_LIMIT, READY_LIMIT};

/// Endpoints follow within this time of the failure that was one too many.
const FOLLOW_LIMIT: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(1);
const HEARTBEAT: &[&str] = &["--node-heartbeat", "10258"];
const ONE_PROBER: &[&str] = &["--probes", "one", "--node-heartbeat", "10258"];

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "a Pod whose readinessProbe fails leaves its Service within a second, and returns when it answers",
            |test| {
                testbed(
                    test,
                    "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 2}",
                    &[],
                )
            },
            probe_fails,
        ),
        scenario(
            "one node probes for all, and the next one while its daemon is down",
            |test| {
                testbed(
                    test,
                    "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}",
                    ONE_PROBER,
                )
            },
            one_probes,
        ),
        scenario(
            "a node that stops answering heartbeats takes its Pods out, one whose daemon is killed does not",
            |test| testbed(test, "", HEARTBEAT),
            node_dies,
        ),
        scenario(
            "a daemon that is to run once ends when everything is served, and the kernel serves on",
            |test| Testbed::without_svc(test, Options::default()),
            run_once,
        ),
    ]
}

/// Service `web` selects the Pods `near` and `far`, which the manifests name with this in their containers.
fn testbed(test: &str, container: &str, flags: &[&str]) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, Options::default())?;
    let cluster = service(10);
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  selector: {{app: web}}\n  \
         clusterIPs: [{v4}, \"{v6}\"]\n  clusterIP: {v4}\n  ipFamilies: [IPv4, IPv6]\n  \
         ports: [{{port: {SERVICE_PORT}, targetPort: {SERVER_PORT}}}]\n",
        v4 = cluster.v4,
        v6 = cluster.v6,
    );
    for (node, pod) in [("node1", "near"), ("node2", "far")] {
        let addrs = testbed.world.topology.host(pod)?.addrs;
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, labels: {{app: web}}}}\n\
             spec:\n  nodeName: {node}\n  containers: [{{name: c, {container}}}]\n\
             status: {{podIP: {v4}, podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n",
            v4 = addrs.v4,
            v6 = addrs.v6,
        ));
    }
    testbed.world.folder.write("web.yaml", &text)?;
    testbed.world.start_with(Flags::default(), flags)?;
    Ok(testbed)
}

/// A few answers in a row come from exactly these servers, over both families.
fn answered_by(testbed: &Testbed, servers: &[&str], limit: Duration) -> Result<()> {
    let what = format!("{servers:?} answer");
    wait::until_true(&what, limit, || {
        let mut all = Vec::new();
        for family in Family::BOTH {
            let answers = testbed.agent("pod")?.ask(Via::Tcp, testbed.cluster_ip(family), 16);
            let mut names: Vec<String> = answers?.into_iter().map(|answer| answer.server).collect();
            names.sort_unstable();
            names.dedup();
            all.push(names);
        }
        ensure!(all.iter().all(|names| names == servers), "{all:?} do");
        Ok(true)
    })
}

fn probe_fails(testbed: &mut Testbed) -> Result<()> {
    let both = ["far", "near"];
    answered_by(testbed, &both, CHANGE_LIMIT)?;
    let far = &testbed.world.topology.host("far")?.netns;
    for _ in 0..2 {
        far.nft(&format!(
            "table inet busy {{
                chain in {{
                    type filter hook input priority 0;
                    tcp dport {SERVER_PORT} reject with tcp reset;
                }}
            }}"
        ))?;
        let began = Instant::now();
        // Two failures are at most two periods away.
        answered_by(testbed, &["near"], 2 * PERIOD + FOLLOW_LIMIT)?;
        let elapsed = began.elapsed();
        ensure!(elapsed >= PERIOD, "one failure was enough: it took {elapsed:?}");
        far.nft("delete table inet busy")?;
        answered_by(testbed, &both, PERIOD + FOLLOW_LIMIT)?;
    }
    Ok(())
}

/// Node2 alone does not reach the Pod `near`, so it is ready for node2 only as long as node1 probes.
fn one_probes(testbed: &mut Testbed) -> Result<()> {
    answered_by(testbed, &["far", "near"], CHANGE_LIMIT)?;
    let near = testbed.world.topology.host("near")?.addrs.v4;
    testbed.world.topology.node(2).host.netns.nft(&format!(
        "table inet cut {{
            chain out {{
                type filter hook output priority 0;
                ip daddr {near} tcp dport {SERVER_PORT} reject with tcp reset;
            }}
        }}"
    ))?;
    for _ in 0..2 {
        until_node2_complains(testbed, false)?;
        testbed.world.daemon(1)?.kill()?;
        until_node2_complains(testbed, true)?;
        testbed.world.restart(1)?;
    }
    until_node2_complains(testbed, false)
}

fn until_node2_complains(testbed: &mut Testbed, is_complaint: bool) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(2)?;
    let what = format!("node2 complains of a probe: {is_complaint}");
    wait::until_true(&what, CHANGE_LIMIT, || {
        let status = daemon.ask_status(node)?.to_string();
        ensure!(status.contains("readinessProbe") == is_complaint, "{status}");
        Ok(true)
    })
}

fn node_dies(testbed: &mut Testbed) -> Result<()> {
    let both = ["far", "near"];
    answered_by(testbed, &both, CHANGE_LIMIT)?;
    heard(testbed)?;
    // Longer than a node may be silent.
    let load = testbed.agent("pod")?.start_load(Via::Tcp, testbed.cluster_ip(Family::V4), 50)?;
    testbed.world.daemon(2)?.kill()?;
    no_failure("while the daemon of node2 is down", &until_more(&load, 250)?)?;
    load.stop()?;
    answered_by(testbed, &both, Duration::ZERO)?;
    testbed.world.restart(2)?;
    let node2 = &testbed.world.topology.node(2).host.netns;
    node2.nft(
        "table inet dead {
            chain in { type filter hook input priority -300; iifname eth0 drop; }
            chain through { type filter hook forward priority -300; drop; }
            chain out { type filter hook output priority -300; oifname eth0 drop; }
        }",
    )?;
    answered_by(testbed, &["near"], 2 * CHANGE_LIMIT)?;
    node2.nft("delete table inet dead")?;
    answered_by(testbed, &both, CHANGE_LIMIT)
}

fn run_once(testbed: &mut Testbed) -> Result<()> {
    testbed.set_backends(&["near"])?;
    let source = Source::Manifests(testbed.world.folder.path().into());
    let once = ["--once".to_owned()].to_vec();
    testbed.world.start_next_with(source, Flags::default(), once)?;
    let code = wait::until("the daemon has ended", READY_LIMIT, || testbed.world.daemon(1)?.exit_code())?;
    ensure!(code == 0, "it ended with {code}");
    testbed.served_at_cluster_ip("near", "pod")
}

/// Node2 has answered node1: there is nothing to complain of.
fn heard(testbed: &mut Testbed) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    wait::until_true("node2 has answered", CHANGE_LIMIT, || {
        let status = daemon.ask_status(node)?.to_string();
        ensure!(!status.contains("heartbeat"), "{status}");
        Ok(true)
    })
}
