//! Services that are created, changed and deleted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;
use svc_tests::topology::Family;

use crate::case::Case;
use crate::fixtures::{Fixtures, case_on};
use crate::objects::PORT;
use crate::testbed::Testbed;

/// Addresses of a load balancer.
const BALANCER: [&str; 2] = ["203.0.113.80", "2001:db8:80::80"];
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

pub fn trials(fixtures: &Arc<Fixtures>) -> Vec<Trial> {
    let case = |sentence, act: fn(&Testbed, &Case<'_>) -> Result<()>| {
        let fixtures = Arc::clone(fixtures);
        case_on(sentence, move || fixtures.shared(), act)
    };
    vec![
        case("a Service is served from its creation to its deletion (SEM-273)", comes_and_goes),
        case("a Service follows its selector, its port and its target port (SEM-008)", retargeted),
        case("a Service goes from ClusterIP to NodePort to LoadBalancer to ExternalName and back", types),
        case("an ExternalName Service becomes a NodePort Service and back", external_name_to_node_port),
        case("headless and ExternalName Services are left alone (SEM-001, SEM-002)", left_alone),
        case(
            "a Service with the name of another proxy is left alone until it loses it (SEM-003)",
            proxy_name,
        ),
        case("a Service gets a second family and loses it again (SEM-036)", second_family),
        case("a Service made anew under its name is served at its new address alone (SEM-270)", made_anew),
        case("an address that passes to another Service serves the other (SEM-270)", address_passed_on),
        case("three hundred Services made at once are all served, and gone when deleted at once", many),
    ]
}

fn comes_and_goes(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    for to in case.service("web", &json!({"selector": {"app": "near"}}))? {
        testbed.soon_answered_by("near", "pod", to)?;
        testbed.soon_answered_by("near", "node1", to)?;
    }
    case.kubectl(&["delete", "service", "web"])?;
    case.soon_empty()
}

fn retargeted(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let [v4, v6] = case.service("web", &json!({"selector": {"app": "near"}}))?;
    testbed.soon_answered_by("near", "pod", v4)?;
    case.patch("web", &json!({"spec": {"selector": {"app": "far"}}}))?;
    testbed.soon_answered_by("far", "pod", v4)?;
    testbed.soon_answered_by("far", "pod", v6)?;

    // Another port: the old one is no longer a frontend.
    case.patch("web", &json!({"spec": {"ports": [{"port": 81, "targetPort": testbed.port}]}}))?;
    let moved = [v4, v6].map(|to| SocketAddr::from((to.ip(), 81)));
    testbed.soon_answered_by("far", "pod", moved[0])?;
    let far = |port| case.backends("far", port);
    let table = |[back4, back6]: [String; 2]| {
        [(format!("{}/TCP", moved[0]), vec![back4]), (format!("{}/TCP", moved[1]), vec![back6])]
    };
    case.soon_table(&table(far(testbed.port)?))?;

    // Another target port.
    let behind = testbed.port + 1000;
    testbed.agent("far")?.serve(behind)?;
    case.patch("web", &json!({"spec": {"ports": [{"port": 81, "targetPort": behind}]}}))?;
    case.soon_table(&table(far(behind)?))?;
    testbed.answered_by("far", "pod", moved[1])
}

fn types(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let addresses = case.service("web", &json!({"selector": {"app": "near"}}))?;
    testbed.soon_answered_by("near", "pod", addresses[0])?;

    case.patch("web", &json!({"spec": {"type": "NodePort"}}))?;
    let node_ports = node_ports(testbed, case)?;
    for to in node_ports {
        testbed.soon_answered_by("near", "client", to)?;
    }

    case.patch("web", &json!({"spec": {"type": "LoadBalancer"}}))?;
    case.patch_status(
        "service",
        "web",
        &json!({"loadBalancer": {"ingress": [{"ip": BALANCER[0]}, {"ip": BALANCER[1]}]}}),
    )?;
    for ip in BALANCER {
        testbed.soon_answered_by("near", "pod", (ip.parse::<IpAddr>()?, PORT).into())?;
    }
    testbed.answered_by("near", "client", node_ports[0])?;

    case.patch(
        "web",
        &json!({"spec": {"type": "ExternalName", "externalName": "web.example", "clusterIP": null, "clusterIPs": null}}),
    )?;
    case.soon_empty()?;

    case.patch("web", &json!({"spec": {"type": "ClusterIP", "externalName": null}}))?;
    // Without a family policy the Service becomes single-stack again.
    testbed.soon_answered_by("near", "pod", case.cluster_ip("web", Family::V4)?)?;
    let table = testbed.table(&case.namespace)?;
    ensure!(table.len() == 1, "only the ClusterIP comes back: {table:?}");
    Ok(())
}

fn external_name_to_node_port(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    case.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "ExternalName", "externalName": "web.example"}}))?;
    let ports = json!([{"port": PORT, "targetPort": testbed.port}]);
    case.patch(
        "web",
        &json!({"spec": {"type": "NodePort", "externalName": null, "selector": {"app": "near"}, "ports": ports,
            "ipFamilyPolicy": "RequireDualStack"}}),
    )?;
    for to in node_ports(testbed, case)? {
        testbed.soon_answered_by("near", "client", to)?;
    }
    let back = json!({"spec": {"type": "ExternalName", "externalName": "web.example", "clusterIP": null,
        "clusterIPs": null}});
    case.patch("web", &back)?;
    case.soon_empty()
}

/// The outside client's addresses for the NodePort of `web`.
fn node_ports(testbed: &Testbed, case: &Case<'_>) -> Result<[SocketAddr; 2]> {
    let port = case.get("service", "web")?["spec"]["ports"][0]["nodePort"].as_u64().context("no NodePort")?;
    let (node, port) = (testbed.addrs("node1")?, u16::try_from(port)?);
    Ok(Family::BOTH.map(|family| (node.of(family), port).into()))
}

fn left_alone(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let headless = json!({"clusterIP": "None", "selector": {"app": "near"}});
    case.create(case.service_object("headless", &headless))?;
    case.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "name"},
        "spec": {"type": "ExternalName", "externalName": "web.example", "ports": [{"port": PORT}]}}))?;
    // Made last: once it is served, the daemon has seen the others.
    let [v4, v6] = case.service("web", &json!({"selector": {"app": "near"}}))?;
    testbed.soon_answered_by("near", "pod", v4)?;
    let [back4, back6] = case.backends("near", testbed.port)?;
    case.soon_table(&[(format!("{v4}/TCP"), vec![back4]), (format!("{v6}/TCP"), vec![back6])])
}

fn proxy_name(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let [v4, v6] = case.service("web", &json!({"selector": {"app": "near"}}))?;
    for _ in 0..2 {
        testbed.soon_answered_by("near", "pod", v4)?;
        testbed.soon_answered_by("near", "pod", v6)?;
        // The label counts, not its value.
        case.kubectl(&["label", "service", "web", &format!("{PROXY_NAME}=")])?;
        case.soon_empty()?;
        case.kubectl(&["label", "service", "web", &format!("{PROXY_NAME}-")])?;
    }
    testbed.soon_answered_by("near", "pod", v4)
}

fn second_family(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let single_stack = json!({"ipFamilyPolicy": "SingleStack", "selector": {"app": "near"}});
    case.create(case.service_object("web", &single_stack))?;
    let v4 = case.cluster_ip("web", Family::V4)?;
    let [back4, back6] = case.backends("near", testbed.port)?;
    let single = [(format!("{v4}/TCP"), vec![back4])];
    case.soon_table(&single)?;
    case.patch("web", &json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}}))?;
    let v6 = case.cluster_ip("web", Family::V6)?;
    testbed.soon_answered_by("near", "pod", v6)?;
    case.soon_table(&[single[0].clone(), (format!("{v6}/TCP"), vec![back6])])?;
    case.patch(
        "web",
        &json!({"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "clusterIPs": [v4.ip()]}}),
    )?;
    case.soon_table(&single)?;
    testbed.answered_by("near", "pod", v4)
}

fn made_anew(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near"])?;
    let old = case.service("web", &json!({"selector": {"app": "near"}}))?;
    testbed.soon_answered_by("near", "pod", old[0])?;
    // In one request, so that a daemon that merges events sees both at once.
    let anew = case.service_object("web", &json!({"selector": {"app": "near"}}));
    case.kubectl(&["delete", "service", "web", "--wait=false"])?;
    case.create(anew)?;
    let new = case.cluster_ips("web")?;
    ensure!(old[0] != new[0], "the API server gives the same address again");
    let [back4, back6] = case.backends("near", testbed.port)?;
    case.soon_table(&[(format!("{}/TCP", new[0]), vec![back4]), (format!("{}/TCP", new[1]), vec![back6])])?;
    testbed.answered_by("near", "pod", new[1])
}

fn address_passed_on(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    case.pods(&["near", "far"])?;
    let addresses = case.service("first", &json!({"selector": {"app": "near"}}))?;
    testbed.soon_answered_by("near", "pod", addresses[0])?;
    let ips = addresses.map(|to| to.ip());
    case.kubectl(&["delete", "service", "first", "--wait=false"])?;
    case.service("second", &json!({"selector": {"app": "far"}, "clusterIP": ips[0], "clusterIPs": ips}))?;
    addresses.iter().try_for_each(|to| testbed.soon_answered_by("far", "pod", *to))
}

fn many(testbed: &Testbed, case: &Case<'_>) -> Result<()> {
    const COUNT: usize = 300;
    case.pods(&["near"])?;
    let object = |n| case.service_object(&format!("web-{n}"), &json!({"selector": {"app": "near"}}));
    let items: Vec<_> = (0..COUNT).map(object).collect();
    testbed.plane().create(&items)?;
    let frontends = case.soon_backed(2 * COUNT)?;
    for frontend in frontends.iter().step_by(7) {
        testbed.answered_by("near", "pod", frontend.trim_end_matches("/TCP").parse()?)?;
    }
    case.kubectl(&["delete", "services", "--all", "--wait=false"])?;
    case.soon_empty()
}
