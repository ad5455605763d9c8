//! Endpoints of a Service: Pods through the controllers, slices and Endpoints made by hand, Nodes.

use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_tests::topology::Family;

use crate::case::Case;
use crate::fixtures::{Fixtures, case_on};
use crate::objects;
use crate::testbed::Testbed;

const HEADLESS: &str = "service.kubernetes.io/headless";

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let case = |sentence, act: fn(&Testbed, &Case<'_>) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        case_on(sentence, move || fixtures.shared(), act)
    };
    let alone = Arc::clone(fixtures);
    let own_node = move || Ok(Arc::new(Testbed::direct("node", alone.control_plane()?)?));
    vec![
        case_on("a Node that is deleted and made again disturbs no Service", own_node, node_again),
        case("a Pod that is relabelled leaves one Service for another", relabelled),
        case("a Pod serves while it is Ready", readiness),
        case("a terminating Pod serves only if no other Pod does (SEM-131)", terminating),
        case("Endpoints made by hand are mirrored and served (SEM-040)", mirrored),
        case("EndpointSlices made by hand are served (SEM-041)", manual_slices),
        case("slices with the label headless are left alone until they lose it (SEM-004)", headless_slices),
        case("a process of the node reaches the API server by the Service kubernetes (SEM-018)", kubernetes),
    ]
}

fn relabelled(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let one = case.service("one", &json!({"selector": {"app": "near"}}))?;
    let other = case.service("other", &json!({"selector": {"app": "moved"}}))?;
    testbed.soon_answered_by("near", "pod", one[0])?;
    testbed.soon_refused("pod", other[0])?;
    case.kubectl(&["label", "pod", "near", "app=moved", "--overwrite"])?;
    testbed.soon_answered_by("near", "pod", other[0])?;
    testbed.soon_answered_by("near", "pod", other[1])?;
    testbed.soon_refused("pod", one[0])?;
    testbed.soon_refused("pod", one[1])
}

fn readiness(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let [to, _] = case.service("web", &json!({"selector": {"app": "near"}}))?;
    for _ in 0..2 {
        testbed.soon_answered_by("near", "pod", to)?;
        case.ready("near", false)?;
        testbed.soon_refused("pod", to)?;
        case.ready("near", true)?;
    }
    testbed.soon_answered_by("near", "pod", to)
}

fn terminating(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let to = case.service("web", &json!({"selector": {"testbed": testbed.name}}))?;
    let table = |hosts: &[&str]| -> Result<()> {
        let behind =
            hosts.iter().map(|host| case.backends(host, testbed.port)).collect::<Result<Vec<_>>>()?;
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
    testbed.soon_refused("pod", to[0])
}

fn mirrored(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let to = case.service("web", &json!({}))?;
    testbed.soon_refused("pod", to[0])?;
    let subsets = |host: &str| -> Result<Value> {
        let addrs = testbed.addrs(host)?;
        Ok(json!([{"addresses": [{"ip": addrs.v4}, {"ip": addrs.v6}], "ports": [{"port": testbed.port}]}]))
    };
    case.create(json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"},
        "subsets": subsets("near")?}))?;
    testbed.soon_answered_by("near", "pod", to[0])?;
    testbed.soon_answered_by("near", "pod", to[1])?;
    let change = json!({"subsets": subsets("far")?}).to_string();
    case.kubectl(&["patch", "endpoints", "web", "--type=merge", "-p", &change])?;
    testbed.soon_answered_by("far", "pod", to[0])?;
    testbed.soon_answered_by("far", "pod", to[1])?;
    case.kubectl(&["delete", "endpoints", "web"])?;
    testbed.soon_refused("pod", to[0])
}

/// A slice of `web` with one endpoint.
fn slice(testbed: &Testbed, name: &str, host: &str, family: Family, labels: &[&str]) -> Result<Value> {
    let mut slice = objects::slice(name, "web", testbed.addrs(host)?.of(family), testbed.port);
    labels.iter().for_each(|label| slice["metadata"]["labels"][label] = "".into());
    Ok(slice)
}

fn manual_slices(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let [v4, v6] = case.service("web", &json!({}))?;
    case.create(slice(testbed, "four", "near", Family::V4, &[])?)?;
    testbed.soon_answered_by("near", "pod", v4)?;
    testbed.soon_refused("pod", v6)?;
    case.create(slice(testbed, "six", "far", Family::V6, &[])?)?;
    testbed.soon_answered_by("far", "pod", v6)?;
    // All slices of a Service count together, also when one is removed.
    case.create(slice(testbed, "four-more", "far", Family::V4, &[])?)?;
    let ([near4, _], [far4, far6]) =
        (case.backends("near", testbed.port)?, case.backends("far", testbed.port)?);
    case.soon_table(&[(format!("{v4}/TCP"), vec![near4, far4.clone()]), (format!("{v6}/TCP"), vec![far6])])?;
    case.kubectl(&["delete", "endpointslices", "four", "six"])?;
    case.soon_table(&[(format!("{v4}/TCP"), vec![far4]), (format!("{v6}/TCP"), vec![])])?;
    testbed.answered_by("far", "pod", v4)
}

fn headless_slices(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let [to, _] = case.service("web", &json!({}))?;
    case.create(slice(testbed, "web", "near", Family::V4, &[HEADLESS])?)?;
    testbed.soon_refused("pod", to)?;
    for _ in 0..2 {
        case.kubectl(&["label", "endpointslice", "web", &format!("{HEADLESS}-")])?;
        testbed.soon_answered_by("near", "pod", to)?;
        case.kubectl(&["label", "endpointslice", "web", &format!("{HEADLESS}=")])?;
        testbed.soon_refused("pod", to)?;
    }
    // The label counts on slices: a Service with it is served by a slice without it (SEM-004).
    case.kubectl(&["label", "service", "web", &format!("{HEADLESS}=")])?;
    case.kubectl(&["label", "endpointslice", "web", &format!("{HEADLESS}-")])?;
    testbed.soon_answered_by("near", "pod", to)
}

/// The controllers remove Pods of a deleted Node from slices when they process them again. A slice made by hand
/// stays, and with it the Service.
fn node_again(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let [to, _] = case.service("web", &json!({}))?;
    let mut by_hand = slice(testbed, "web", "near", Family::V4, &[])?;
    by_hand["endpoints"][0]["nodeName"] = testbed.node_name(1).into();
    case.create(by_hand)?;
    testbed.soon_answered_by("near", "pod", to)?;
    case.kubectl(&["delete", "node", &testbed.node_name(1)])?;
    // Made afterwards: once it is served, the daemon has seen the deletion.
    let [_, late] = case.service("late", &json!({"selector": {"app": "far"}}))?;
    testbed.soon_answered_by("far", "pod", late)?;
    testbed.answered_by("near", "pod", to)?;
    testbed.unnoticed()?;
    testbed.make_node(1)?;
    let [later, _] = case.service("later", &json!({"selector": {"app": "near"}}))?;
    testbed.soon_answered_by("near", "pod", later)?;
    testbed.answered_by("near", "node1", to)
}

fn kubernetes(testbed: &Testbed, _case: &Case<'_>) -> Result<()> {
    testbed.reaches_api("https://10.96.0.1:443")
}
