//! The daemon follows its Node and the ranges of the cluster while it runs, and `svc-ctl check` finds faults there.

use std::net::{IpAddr, SocketAddr};
use std::slice;
use std::sync::{Arc, PoisonError};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_tests::agent::Via;
use svc_tests::topology::Family;
use svc_tests::{http, wait};

use crate::case::Case;
use crate::fixtures::{Fixtures, play};
use crate::objects;
use crate::plane::ACCOUNTS;
use crate::testbed::{CHANGE_LIMIT, Testbed};

/// Flags of the daemon: everything here depends on an object that changes.
pub const FLAGS: [&str; 3] =
    ["--service-cidr=cluster", "--nodeport-addresses=primary", "--detect-local-mode=node-cidr"];
const HEALTHZ: &str = "127.0.0.1:10256";
const TAINT: &str = "ToBeDeletedByClusterAutoscaler";
/// Another address of node1.
const SECOND_ADDRESS: &str = "192.0.2.71";
/// A range besides the API server's own, and two addresses of it.
const MORE: &str = "10.111.7.0/24";
const GIVEN: &str = "10.111.7.5";
const FREE: &str = "10.111.7.6";

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let case = |sentence: &'static str, act: fn(&Testbed, &Case<'_>) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        Trial::test(sentence, move || {
            let _turn = fixtures.node_turn.lock().unwrap_or_else(PoisonError::into_inner);
            play(sentence, || fixtures.followed(), act)
        })
    };
    vec![
        case("a taint of the autoscaler makes the node ineligible until it is taken away (SEM-211)", taint),
        case("a changed zone of the Node chooses other endpoints (SEM-075)", zone),
        case(
            "a changed address of the Node accepts NodePorts in the place of the old one (SEM-221)",
            address,
        ),
        case("changed pod CIDRs of the Node decide which pods are local (SEM-221)", pod_cidrs),
        case("the ranges of ServiceCIDR objects are followed, and their free addresses dropped", ranges),
        case("svc-ctl check names a node that does not serve and a right that is missing", check),
    ]
}

fn taint(testbed: &Testbed, _case: &Case<'_>) -> Result<()> {
    let node = testbed.node_name(1);
    let says = |status: &str, field: &str| {
        wait::until_true(&format!("/healthz says {status} and {field}"), CHANGE_LIMIT, || {
            let answer = testbed
                .on_node(|node, _| node.host.netns.within(|| http::get(HEALTHZ.parse()?, "/healthz")))?;
            ensure!(answer.contains(status) && answer.contains(field), "it says {answer:?}");
            Ok(true)
        })
    };
    says("HTTP/1.1 200", "\"nodeEligible\":true")?;
    testbed.plane().kubectl(&["taint", "node", &node, &format!("{TAINT}=now:NoSchedule")])?;
    says("HTTP/1.1 503", "\"nodeEligible\":false")?;
    testbed.plane().kubectl(&["taint", "node", &node, &format!("{TAINT}-")])?;
    says("HTTP/1.1 200", "\"nodeEligible\":true")
}

fn zone(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let mut backends = Vec::new();
    for (host, zone) in [("near", "a"), ("far", "b")] {
        let address = testbed.addrs(host)?.of(Family::V4);
        let mut slice = objects::slice(&format!("web-{host}"), "web", address, testbed.port);
        slice["endpoints"][0]["hints"] = json!({"forZones": [{"name": zone}]});
        case.create(slice)?;
        backends.push(SocketAddr::from((address, testbed.port)).to_string());
    }
    case.create(case.service_object("web", &json!({"ipFamilyPolicy": "SingleStack"})))?;
    let to = case.cluster_ip("web", Family::V4)?;
    let serve = |backends: &[String]| {
        let mut backends = backends.to_vec();
        backends.sort();
        case.soon_table(&[(format!("{to}/TCP"), backends)])
    };
    let label = |label: &str| {
        testbed.plane().kubectl(&["label", "node", &testbed.node_name(1), "--overwrite", label]).map(drop)
    };
    serve(&backends)?;
    label("topology.kubernetes.io/zone=a")?;
    serve(&backends[..1])?;
    label("topology.kubernetes.io/zone=b")?;
    serve(&backends[1..])?;
    label("topology.kubernetes.io/zone-")?;
    serve(&backends)
}

fn address(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    testbed.on_node(|node, _| {
        let uplink = node.uplinks().first().context("node1 has no uplink")?;
        node.host.netns.ip(&format!("addr replace {SECOND_ADDRESS}/24 dev {uplink}"))
    })?;
    case.pods(&["near"])?;
    case.service("web", &json!({"type": "NodePort", "selector": {"app": "near"}}))?;
    let (port, own) = (node_port(case)?, testbed.addrs("node1")?);
    let first = SocketAddr::new(own.of(Family::V4), port);
    let second = SocketAddr::new(SECOND_ADDRESS.parse()?, port);
    let become_address = |ip: IpAddr| {
        let internal = |ip: IpAddr| json!({"type": "InternalIP", "address": ip});
        let addresses = json!({"addresses": [internal(ip), internal(own.of(Family::V6))]});
        case.patch_status("node", &testbed.node_name(1), &addresses)
    };
    for (address, served, other) in [(second.ip(), second, first), (first.ip(), first, second)] {
        become_address(address)?;
        testbed.soon_answered_by("near", "client", served)?;
        testbed.soon_refused("client", other)?;
    }
    Ok(())
}

/// Under external policy Local a local pod is served by endpoints of all nodes. Other clients are not.
fn pod_cidrs(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["far"])?;
    let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"app": "far"}});
    case.service("web", &local)?;
    let to = SocketAddr::new(testbed.addrs("node1")?.of(Family::V4), node_port(case)?);
    testbed.soon_answered_by("far", "pod", to)?;
    // The API server does not let the pod CIDRs of a Node change.
    let name = testbed.node_name(1);
    testbed.plane().kubectl(&["delete", "node", &name])?;
    let mut other = testbed.node(1);
    other["spec"] = json!({"podCIDR": "10.244.201.0/24", "podCIDRs": ["10.244.201.0/24"]});
    testbed.plane().create(slice::from_ref(&other))?;
    testbed.plane().set_status(&[other])?;
    wait::until_true("the pod is not served as a local one", CHANGE_LIMIT, || {
        Ok(testbed.agent("pod")?.ask(Via::Tcp, to, 1).is_err())
    })?;
    testbed.plane().kubectl(&["delete", "node", &name])?;
    testbed.make_node(1)?;
    testbed.soon_answered_by("far", "pod", to)
}

/// The NodePort of `web`.
fn node_port(case: &Case<'_>) -> Result<u16> {
    let port = case.get("service", "web")?["spec"]["ports"][0]["nodePort"].as_u64();
    Ok(port.context("no NodePort")?.try_into()?)
}

fn ranges(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    let plane = testbed.plane();
    let dropped = || -> Result<u64> {
        let status = testbed.on_node(|_, daemon| daemon.status())?;
        Ok(status["counters"]["drop_unallocated"].as_u64().unwrap_or(0))
    };
    let all = plane.kubectl(&["get", "servicecidrs", "kubernetes", "-o", "jsonpath={.spec.cidrs}"])?;
    ensure!(all.contains("10.96.0.0/16"), "the API server's own ranges are {all}");
    let grows = |to: &str| {
        let before = dropped()?;
        let to = SocketAddr::new(to.parse()?, objects::PORT);
        let load = testbed.agent("pod")?.start_load(Via::UdpConnected, to, 20)?;
        wait::until_true(&format!("packets to {to} are dropped"), CHANGE_LIMIT, || {
            let now = dropped()?;
            ensure!(now > before, "{before} have been dropped, now {now}");
            Ok(true)
        })?;
        load.stop().map(drop)
    };
    // Of the API server's own range; no Service has the address, which is the last one.
    grows("10.96.255.254")?;
    plane.create(&[json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "more"},
        "spec": {"cidrs": [MORE]},
    })])?;
    grows(FREE)?;
    case.pods(&["near"])?;
    let more = json!({"ipFamilyPolicy": "SingleStack", "clusterIP": GIVEN, "selector": {"app": "near"}});
    // Allowed once the API server itself has seen the new range.
    wait::until("a Service gets an address of the new range", CHANGE_LIMIT, || {
        case.create(case.service_object("web", &more)).map(Some)
    })?;
    testbed.soon_answered_by("near", "pod", SocketAddr::new(GIVEN.parse()?, objects::PORT))?;
    case.kubectl(&["delete", "service", "web"])?;
    // It goes once no Service has an address of it. Services of other cases may: the API server gives from every range.
    plane.kubectl(&["delete", "servicecidr", "more", "--wait=false"]).map(drop)
}

fn check(testbed: &Testbed, _case: &Case<'_>) -> Result<()> {
    let (found, name) = (testbed.check()?, testbed.node_name(2));
    let has = |found: &[Value], check: &str, verdict: &str, text: &str| {
        let is = |line: &&Value| {
            line["name"] == check
                && line["verdict"] == verdict
                && line["found"].as_str().is_some_and(|found| found.contains(text))
        };
        ensure!(found.iter().any(|line| is(&line)), "no {verdict} of {check} says {text:?}: {found:#?}");
        Ok(())
    };
    has(&found, "api server", "pass", "it answers, version v1.")?;
    has(&found, "rights", "pass", "all ")?;
    has(&found, "nodes", "fail", &format!("{name} ("))?;
    let fails = |line: &Value| line["verdict"] == "fail" && line["name"] == "nodes";
    let is_named = |line: &Value| line["found"].as_str().is_some_and(|f| f.contains(&testbed.node_name(1)));
    ensure!(!found.iter().any(|line| fails(line) && is_named(line)), "node1 serves: {found:#?}");

    let (plane, role) = (testbed.plane(), "half-of-check");
    plane.kubectl(&["delete", "clusterrolebinding", &testbed.name])?;
    plane.kubectl(&["create", "clusterrole", role, "--verb=list,watch", "--resource=services,nodes"])?;
    let account = format!("--serviceaccount={ACCOUNTS}:{}", testbed.name);
    plane.kubectl(&["create", "clusterrolebinding", role, "--clusterrole", role, &account])?;
    let found = testbed.soon_cannot("endpointslices").and_then(|()| testbed.check());
    plane.create(&[testbed.binding()])?;
    let found = found?;
    has(&found, "rights", "fail", "may not list endpointslices: nothing can be served")?;
    has(&found, "rights", "warn", "may not create events")
}
