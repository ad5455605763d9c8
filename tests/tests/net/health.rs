//! Answers to load balancers, requested from outside over both families (SEM-200 to SEM-216).

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options};
use svc_tests::world::CHANGE_LIMIT;
use svc_tests::{http, wait};

const HEALTHZ_PORT: u16 = 10256;
const HEALTH_CHECK_NODE_PORT: u16 = 32345;
const TAINT: &str = "taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}], podCIDR:";

pub fn trials() -> Vec<Trial> {
    vec![
        scenario(
            "a health check node port follows the node's ready endpoints (SEM-205, SEM-208)",
            testbed,
            health_check_node_port,
        ),
        scenario(
            "a node about to be removed is not eligible for load balancers, and goes on serving (SEM-216)",
            testbed,
            node_about_to_go,
        ),
    ]
}

fn testbed(test: &str) -> Result<Testbed> {
    Testbed::new(test, Options::default(), Flags::default(), &["near"])
}

fn health_check_node_port(testbed: &mut Testbed) -> Result<()> {
    for (backends, weights) in [(["near"].as_slice(), [1, 0]), (&["far"], [0, 1]), (&["near", "far"], [1, 1])]
    {
        let local = "type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: 32345";
        let manifest = testbed.manifest(backends)?.replace("type: NodePort", local);
        testbed.world.folder.write("web.yaml", &manifest)?;
        for (node, weight) in ["node1", "node2"].into_iter().zip(weights) {
            let status = if weight > 0 { "HTTP/1.1 200" } else { "HTTP/1.1 503" };
            let header = format!("x-load-balancing-endpoint-weight: {weight}\r\n");
            soon_contains(testbed, node, HEALTH_CHECK_NODE_PORT, "/healthz", &[status, &header])?;
        }
    }
    testbed.set_backends(&["near"])?;
    wait::until_true("the port is closed", CHANGE_LIMIT, || {
        Ok(ask(testbed, "node1", Family::V4, HEALTH_CHECK_NODE_PORT, "/").is_err())
    })
}

fn node_about_to_go(testbed: &mut Testbed) -> Result<()> {
    for path in ["/healthz", "/livez", "/readyz"] {
        soon_contains(testbed, "node1", HEALTHZ_PORT, path, &["HTTP/1.1 200", "\"lastUpdated\":"])?;
    }
    let nodes =
        std::fs::read_to_string(testbed.world.folder.path().join("nodes.yaml")).context("the nodes")?;
    testbed.world.folder.write("nodes.yaml", &nodes.replacen("podCIDR:", TAINT, 1))?;
    soon_contains(testbed, "node1", HEALTHZ_PORT, "/healthz", &["HTTP/1.1 503", "\"nodeEligible\":false"])?;
    for path in ["/livez", "/readyz"] {
        soon_contains(testbed, "node1", HEALTHZ_PORT, path, &["HTTP/1.1 200"])?;
    }
    soon_contains(testbed, "node2", HEALTHZ_PORT, "/healthz", &["HTTP/1.1 200"])?;
    for family in Family::BOTH {
        testbed.answered_by("near", "client", Via::Tcp, testbed.node_port(family))?;
    }
    testbed.served_at_cluster_ip("near", "pod")
}

/// Waits until the response to the outside client has all of this, over both families.
fn soon_contains(testbed: &Testbed, node: &str, port: u16, path: &str, wanted: &[&str]) -> Result<()> {
    for family in Family::BOTH {
        wait::until_true(&format!("{node}:{port}{path} contains {wanted:?}"), CHANGE_LIMIT, || {
            let answer = ask(testbed, node, family, port, path)?;
            ensure!(wanted.iter().all(|w| answer.contains(w)), "it is {answer:?}");
            Ok(true)
        })?;
    }
    Ok(())
}

fn ask(testbed: &Testbed, node: &str, family: Family, port: u16, path: &str) -> Result<String> {
    let to: SocketAddr = (testbed.world.topology.host(node)?.addrs.of(family), port).into();
    testbed.world.topology.client.netns.within(|| http::get(to, path))
}
