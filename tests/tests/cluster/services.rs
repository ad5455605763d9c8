//! What stands still: no kube-proxy, the API server by its Service, servers by all frontends from everywhere.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use svc_tests::cluster::addresses;
use svc_tests::{command, wait};

use crate::load::{Load, Rates, Way, servers};
use crate::replicas::LIMIT;
use crate::stage::{DAEMON, DAEMONS, ECHO, NAMESPACE, Stage, Theatre, case, cluster_ips};

pub fn trials(theatre: &Arc<Theatre>) -> Vec<Trial> {
    vec![
        case(theatre, "svc is ready on every node, and no node runs a kube-proxy", svc_alone),
        case(theatre, "a pod reaches the API server by the Service kubernetes", api_server),
        case(theatre, "servers are reached from pods, nodes and outside by every frontend", everywhere),
    ]
}

fn svc_alone(stage: &Stage) -> Result<()> {
    for pod in &stage.clients {
        let daemons = stage.places.processes(&pod.node, DAEMON)?;
        ensure!(daemons.len() == 1, "{} has daemons {daemons:?}", pod.node);
        let others = stage.places.processes(&pod.node, "kube-proxy")?;
        ensure!(others.is_empty(), "{} has a kube-proxy: {others:?}", pod.node);
    }
    stage.places.await_pods("kube-system", DAEMONS, stage.clients.len()).map(drop)
}

fn api_server(stage: &Stage) -> Result<()> {
    let ips = cluster_ips(&stage.places, "kubernetes")?;
    ensure!(ips.contains(&addresses::KUBERNETES.v4.into()), "the Service kubernetes has {ips:?}");
    for pod in &stage.clients {
        for ip in &ips {
            let server = format!("--server=https://{}", SocketAddr::new(*ip, 443));
            let mut kubectl = stage.places.kubectl_in(pod)?;
            let answer = command::run(kubectl.args([&server, "get", "--raw", "/readyz"]))?;
            ensure!(answer == "ok", "{} was answered by {ip}: {answer}", pod.name);
        }
    }
    Ok(())
}

fn everywhere(stage: &Stage) -> Result<()> {
    let load = Load::start(stage, Rates { new: 5, streams: 0, asks: 0 })?;
    let pods = stage.places.pods(NAMESPACE, ECHO)?;
    let all = pods.iter().map(|pod| pod.name.as_str()).collect();
    wait::until_true("every way has led to every server", LIMIT, || {
        Ok(load.ways().iter().map(Way::look).all(|seen| seen.is_ok_and(|seen| servers(&seen) == all)))
    })?;
    load.check().map(drop)
}
