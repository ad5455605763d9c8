//! What is behind a Service: Pods as the controllers see them, slices and Endpoints made by hand, Nodes.

use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_tests::topology::Family;

use crate::case::Case;
use crate::objects;
use crate::stage::Stage;
use crate::theatre::{Theatre, case_on};

const HEADLESS: &str = "service.kubernetes.io/headless";

pub fn trials(theatre: &Arc<Theatre>) -> Vec<Trial> {
    let case = |sentence, act: fn(&Stage, &Case<'_>) -> Result<()>| {
        let theatre = Arc::clone(theatre);
        case_on(sentence, move || theatre.quiet(), act)
    };
    let alone = Arc::clone(theatre);
    let own_node = move || Ok(Arc::new(Stage::direct("node", alone.calm()?)?));
    vec![
        case_on("a Node that is deleted and made again is missed by no Service", own_node, node_again),
        case("a Pod that is relabelled leaves one Service for another", relabelled),
        case("a Pod serves while it is Ready", readiness),
        case("a Pod that is terminating serves only where nobody else does (SEM-131)", terminating),
        case("Endpoints made by hand are mirrored and served (SEM-040)", mirrored),
        case("EndpointSlices made by hand are served (SEM-041)", manual_slices),
        case("slices with the label headless are left alone until they lose it (SEM-004)", headless_slices),
        case("a process of the node reaches the API server by the Service kubernetes (SEM-018)", kubernetes),
    ]
}

fn relabelled(stage: &Stage, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let one = case.service("one", &json!({"selector": {"app": "near"}}))?;
    let other = case.service("other", &json!({"selector": {"app": "moved"}}))?;
    stage.soon_answered_by("near", "pod", one[0])?;
    stage.soon_refused("pod", other[0])?;
    case.kubectl(&["label", "pod", "near", "app=moved", "--overwrite"])?;
    stage.soon_answered_by("near", "pod", other[0])?;
    stage.soon_answered_by("near", "pod", other[1])?;
    stage.soon_refused("pod", one[0])?;
    stage.soon_refused("pod", one[1])
}

fn readiness(stage: &Stage, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let [to, _] = case.service("web", &json!({"selector": {"app": "near"}}))?;
    for _ in 0..2 {
        stage.soon_answered_by("near", "pod", to)?;
        case.ready("near", false)?;
        stage.soon_refused("pod", to)?;
        case.ready("near", true)?;
    }
    stage.soon_answered_by("near", "pod", to)
}

fn terminating(stage: &Stage, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let to = case.service("web", &json!({"selector": {"stage": stage.name}}))?;
    let table = |hosts: &[&str]| -> Result<()> {
        let behind = hosts.iter().map(|host| case.backends(host, stage.port)).collect::<Result<Vec<_>>>()?;
        let rows = [0, 1].map(|family: usize| {
            let mut backends: Vec<_> = behind.iter().filter_map(|both| both.get(family).cloned()).collect();
            backends.sort();
            (format!("{}/TCP", to[family]), backends)
        });
        case.soon_table(&rows)
    };
    table(&["near", "far"])?;
    let end = |host| case.kubectl(&["delete", "pod", host, "--grace-period=60", "--wait=false"]);
    end("near")?;
    table(&["far"])?;
    end("far")?;
    table(&["near", "far"])?;
    case.kubectl(&["delete", "pods", "--all", "--grace-period=0", "--force"])?;
    stage.soon_refused("pod", to[0])
}

fn mirrored(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let to = case.service("web", &json!({}))?;
    stage.soon_refused("pod", to[0])?;
    let subsets = |host: &str| -> Result<Value> {
        let addrs = stage.addrs(host)?;
        Ok(json!([{"addresses": [{"ip": addrs.v4}, {"ip": addrs.v6}], "ports": [{"port": stage.port}]}]))
    };
    case.create(json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"},
        "subsets": subsets("near")?}))?;
    stage.soon_answered_by("near", "pod", to[0])?;
    stage.soon_answered_by("near", "pod", to[1])?;
    let change = json!({"subsets": subsets("far")?}).to_string();
    case.kubectl(&["patch", "endpoints", "web", "--type=merge", "-p", &change])?;
    stage.soon_answered_by("far", "pod", to[0])?;
    stage.soon_answered_by("far", "pod", to[1])?;
    case.kubectl(&["delete", "endpoints", "web"])?;
    stage.soon_refused("pod", to[0])
}

/// A slice of `web` with one host in it.
fn slice(stage: &Stage, name: &str, host: &str, family: Family, labels: &[&str]) -> Result<Value> {
    let mut slice = objects::slice(name, "web", stage.addrs(host)?.of(family), stage.port);
    labels.iter().for_each(|label| slice["metadata"]["labels"][label] = "".into());
    Ok(slice)
}

fn manual_slices(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let [v4, v6] = case.service("web", &json!({}))?;
    case.create(slice(stage, "four", "near", Family::V4, &[])?)?;
    stage.soon_answered_by("near", "pod", v4)?;
    stage.soon_refused("pod", v6)?;
    case.create(slice(stage, "six", "far", Family::V6, &[])?)?;
    stage.soon_answered_by("far", "pod", v6)?;
    // Slices of one Service are taken together, and one by one away.
    case.create(slice(stage, "four-more", "far", Family::V4, &[])?)?;
    let ([near4, _], [far4, far6]) = (case.backends("near", stage.port)?, case.backends("far", stage.port)?);
    case.soon_table(&[(format!("{v4}/TCP"), vec![near4, far4.clone()]), (format!("{v6}/TCP"), vec![far6])])?;
    case.kubectl(&["delete", "endpointslices", "four", "six"])?;
    case.soon_table(&[(format!("{v4}/TCP"), vec![far4]), (format!("{v6}/TCP"), vec![])])?;
    stage.answered_by("far", "pod", v4)
}

fn headless_slices(stage: &Stage, case: &Case<'_>) -> Result<()> {
    let [to, _] = case.service("web", &json!({}))?;
    case.create(slice(stage, "web", "near", Family::V4, &[HEADLESS])?)?;
    stage.soon_refused("pod", to)?;
    for _ in 0..2 {
        case.kubectl(&["label", "endpointslice", "web", &format!("{HEADLESS}-")])?;
        stage.soon_answered_by("near", "pod", to)?;
        case.kubectl(&["label", "endpointslice", "web", &format!("{HEADLESS}=")])?;
        stage.soon_refused("pod", to)?;
    }
    // The label means slices: a Service that has it is served by a slice that has not (SEM-004).
    case.kubectl(&["label", "service", "web", &format!("{HEADLESS}=")])?;
    case.kubectl(&["label", "endpointslice", "web", &format!("{HEADLESS}-")])?;
    stage.soon_answered_by("near", "pod", to)
}

/// The controllers take Pods of a Node that is no more out of slices when they look at them again; a slice made by hand
/// stays, and with it the Service.
fn node_again(stage: &Stage, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let [to, _] = case.service("web", &json!({}))?;
    let mut by_hand = slice(stage, "web", "near", Family::V4, &[])?;
    by_hand["endpoints"][0]["nodeName"] = stage.node_name(1).into();
    case.create(by_hand)?;
    stage.soon_answered_by("near", "pod", to)?;
    case.kubectl(&["delete", "node", &stage.node_name(1)])?;
    // Made after it: when it is served, the deletion has been seen.
    let [_, late] = case.service("late", &json!({"selector": {"app": "far"}}))?;
    stage.soon_answered_by("far", "pod", late)?;
    stage.answered_by("near", "pod", to)?;
    stage.unnoticed()?;
    stage.make_node(1)?;
    let [later, _] = case.service("later", &json!({"selector": {"app": "near"}}))?;
    stage.soon_answered_by("near", "pod", later)?;
    stage.answered_by("near", "node1", to)
}

fn kubernetes(stage: &Stage, _case: &Case<'_>) -> Result<()> {
    stage.reaches_api("https://10.96.0.1:443")
}
