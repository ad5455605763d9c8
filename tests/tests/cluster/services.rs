//! The cluster without changes: no kube-proxy, the API server by its Service, servers by all frontends from
//! everywhere.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use svc_tests::cluster::addresses;
use svc_tests::{command, wait};

use crate::load::{Load, NodeTraffic, Rates, servers};
use crate::replicas::LIMIT;
use crate::testbed::{DAEMON, DAEMONS, ECHO, Fixtures, NAMESPACE, Testbed, case, cluster_ips};

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    vec![
        case(fixtures, "svc is ready on every node, and no node runs a kube-proxy", svc_alone),
        case(fixtures, "a pod reaches the API server by the Service kubernetes", api_server),
        case(fixtures, "servers are reached from pods, nodes and outside by every frontend", everywhere),
    ]
}

fn svc_alone(testbed: &Testbed) -> Result<()> {
    for pod in &testbed.clients {
        let daemons = testbed.places.processes(&pod.node, DAEMON)?;
        ensure!(daemons.len() == 1, "{} has daemons {daemons:?}", pod.node);
        let others = testbed.places.processes(&pod.node, "kube-proxy")?;
        ensure!(others.is_empty(), "{} has a kube-proxy: {others:?}", pod.node);
    }
    testbed.places.await_pods("kube-system", DAEMONS, testbed.clients.len()).map(drop)
}

fn api_server(testbed: &Testbed) -> Result<()> {
    let ips = cluster_ips(&testbed.places, "kubernetes")?;
    ensure!(ips.contains(&addresses::KUBERNETES.v4.into()), "the Service kubernetes has {ips:?}");
    for pod in &testbed.clients {
        for ip in &ips {
            let server = format!("--server=https://{}", SocketAddr::new(*ip, 443));
            let mut kubectl = testbed.places.kubectl_in(pod)?;
            let answer = command::run(kubectl.args([&server, "get", "--raw", "/readyz"]))?;
            ensure!(answer == "ok", "{} was answered by {ip}: {answer}", pod.name);
        }
    }
    Ok(())
}

fn everywhere(testbed: &Testbed) -> Result<()> {
    let load = Load::start(testbed, Rates { new: 5, streams: 0, asks: 0 })?;
    let pods = testbed.places.pods(NAMESPACE, ECHO)?;
    let all = pods.iter().map(|pod| pod.name.as_str()).collect();
    wait::until_true("clients of every node have reached every server", LIMIT, || {
        Ok(load
            .by_node()
            .iter()
            .map(NodeTraffic::look)
            .all(|seen| seen.is_ok_and(|seen| servers(&seen) == all)))
    })?;
    load.check().map(drop)
}
