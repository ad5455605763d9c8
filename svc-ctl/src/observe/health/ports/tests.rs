//! Services and endpoints in, ports and counts out.

use super::*;
use crate::model::store::Store;
use crate::source::event::{Event, SourceEvent};

const WEB: &str =
    "clusterIP: 10.96.0.1, type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 345";

fn world(store: &mut Store) -> World {
    store.world().clone()
}

/// The model of node `here`, after the source has listed everything.
fn store(services: &[(&str, &str)], slices: &[String]) -> Store {
    let mut store = Store::new("here");
    store.take(SourceEvent::Service(Event::Init));
    store.take(SourceEvent::Slice(Event::Init));
    store.take(SourceEvent::Node(Event::Init));
    for (name, spec) in services {
        store.take(SourceEvent::Service(Event::InitApply(service(name, spec))));
    }
    for yaml in slices {
        store.take(SourceEvent::Slice(Event::InitApply(Box::new(serde_yaml_ng::from_str(yaml).unwrap()))));
    }
    store.take(SourceEvent::Service(Event::InitDone));
    store.take(SourceEvent::Slice(Event::InitDone));
    store.take(SourceEvent::Node(Event::InitDone));
    store
}

fn service(name: &str, spec: &str) -> Box<k8s_openapi::api::core::v1::Service> {
    let yaml = format!(
        "{{metadata: {{name: {name}}}, spec: {{ports: [{{port: 80}}, {{name: b, port: 81}}], {spec}}}}}"
    );
    Box::new(serde_yaml_ng::from_str(&yaml).unwrap())
}

/// A slice of `web` with two ports and these endpoints.
fn slice(name: &str, family: &str, endpoints: &str) -> String {
    format!(
        "{{metadata: {{name: {name}, labels: {{kubernetes.io/service-name: web}}}}, addressType: {family},
        ports: [{{name: '', port: 8080}}, {{name: b, port: 8081}}], endpoints: [{endpoints}]}}"
    )
}

/// Ports as `number service count`, and complaints.
fn planned(store: &mut Store) -> (Vec<String>, Vec<String>) {
    let planned = health_ports(world(store), NodePortAddresses::default());
    assert_eq!(planned.addresses, None);
    let ports = planned.ports.iter().map(|(n, p)| format!("{n} {} {}", p.service.name, p.local_endpoints));
    (ports.collect(), planned.complaints().map(|(_, complaint)| complaint.to_string()).collect())
}

fn ports(services: &[(&str, &str)], slices: &[String]) -> Vec<String> {
    planned(&mut store(services, slices)).0
}

#[test]
fn sem_200_only_load_balancers_with_the_local_policy_have_a_port() {
    for spec in [
        "clusterIP: 10.96.0.1, type: LoadBalancer, externalTrafficPolicy: Cluster, healthCheckNodePort: 345",
        "clusterIP: 10.96.0.1, type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 0",
        "clusterIP: 10.96.0.1, type: LoadBalancer, externalTrafficPolicy: Local",
        "clusterIP: 10.96.0.1, type: NodePort, externalTrafficPolicy: Local, healthCheckNodePort: 345",
        "clusterIP: 10.96.0.1, type: ClusterIP, healthCheckNodePort: 345",
        "clusterIP: None, type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 345",
    ] {
        assert_eq!(ports(&[("web", spec)], &[]), [""; 0], "{spec}");
    }
    assert_eq!(ports(&[("web", WEB)], &[]), ["345 web 0"]);
}

#[test]
fn par_124_a_port_comes_and_goes_with_the_type() {
    let cluster = "clusterIP: 10.96.0.1, type: ClusterIP";
    let mut store = store(&[("web", cluster)], &[]);
    for (spec, expected) in
        [(cluster, vec![]), (WEB, vec!["345 web 0"]), (WEB, vec!["345 web 0"]), (cluster, vec![])]
    {
        store.take(SourceEvent::Service(Event::Apply(service("web", spec))));
        assert_eq!(planned(&mut store), (expected.iter().map(ToString::to_string).collect(), vec![]));
    }
}

#[test]
fn par_132_ready_endpoints_of_this_node_count() {
    let count = |endpoints: &str| ports(&[("web", WEB)], &[slice("a", "IPv4", endpoints)]);
    let here = "{addresses: [10.0.0.1], nodeName: here}, {addresses: [10.0.0.2], nodeName: here},
        {addresses: [10.0.0.3], nodeName: here, conditions: {ready: true}},
        {addresses: [10.0.0.4], nodeName: here, conditions: {ready: false}},
        {addresses: [10.0.0.5], nodeName: there}, {addresses: [10.0.0.6]}";
    assert_eq!(count(here), ["345 web 3"]);
    let ending = "
        {addresses: [10.0.0.1], nodeName: here, conditions: {ready: false, serving: true, terminating: true}},
        {addresses: [10.0.0.2], nodeName: here, conditions: {ready: false, serving: true, terminating: false}},
        {addresses: [10.0.0.3], nodeName: here, conditions: {ready: false, serving: false, terminating: true}}";
    assert_eq!(count(ending), ["345 web 0"]);
}

#[test]
fn sem_203_an_address_counts_once_and_only_in_the_first_family() {
    let one = "{addresses: [10.0.0.1], nodeName: here}";
    let both = "{addresses: ['fd00::1'], nodeName: here}, {addresses: ['fd00::2'], nodeName: here}";
    let slices = [slice("a", "IPv4", one), slice("b", "IPv4", one), slice("c", "IPv6", both)];
    let spec = |ips: &str| {
        format!(
            "clusterIPs: [{ips}], type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 345"
        )
    };
    assert_eq!(ports(&[("web", &spec("10.96.0.1, 'fd00:96::1'"))], &slices), ["345 web 1"]);
    assert_eq!(ports(&[("web", &spec("'fd00:96::1', 10.96.0.1"))], &slices), ["345 web 2"]);
}

#[test]
fn a_port_that_two_services_claim_goes_to_one_and_the_other_is_reported() {
    let mut store = store(&[("web", WEB), ("zoo", &WEB.replace("0.1", "0.2"))], &[]);
    let problem = "Service default/zoo: spec.healthCheckNodePort: 345 is the port of default/web already";
    assert_eq!(planned(&mut store), (vec!["345 web 0".to_owned()], vec![problem.to_owned()]));
}

#[test]
fn sem_201_restricted_node_ports_restrict_the_listeners() {
    let mut store = store(&[("web", WEB)], &[]);
    let addrs = ["127.0.0.1", "192.0.2.1", "192.0.3.1"].map(|a| a.parse().unwrap()).into();
    store.set_addresses(crate::model::node::NodeAddresses { addrs, ..Default::default() });
    let planned = health_ports(world(&mut store), "192.0.2.0/24".parse().unwrap());
    assert_eq!(planned.addresses, Some(Arc::new(["192.0.2.1".parse().unwrap()].into())));
}

#[test]
fn updating_the_ports_gives_the_same_as_computing_them_anew() {
    let there = |n: u8| format!("{{addresses: [10.0.0.{n}], nodeName: here}}");
    let other = WEB.replace("345", "346").replace("0.1", "0.3");
    let zoo = WEB.replace("0.1", "0.2");
    let steps = [
        (vec![("web", WEB), ("zoo", &*zoo)], vec![]),
        (vec![("web", WEB), ("zoo", &*zoo)], vec![slice("a", "IPv4", &there(1))]),
        (vec![("web", &*other), ("zoo", &*zoo)], vec![slice("a", "IPv4", &there(1))]),
        (vec![("ape", &*other), ("web", &*other), ("zoo", &*zoo)], vec![slice("a", "IPv4", &there(1))]),
        (vec![("web", &*zoo), ("zoo", &*zoo)], vec![slice("a", "IPv4", &there(2))]),
        (vec![("zoo", &*zoo)], vec![]),
        (vec![], vec![]),
    ];
    let mut kept = HealthPortMap::new(NodePortAddresses::default());
    for (services, slices) in steps {
        let world = world(&mut store(&services, &slices));
        kept.update(world.clone());
        let anew = health_ports(world, NodePortAddresses::default());
        assert_eq!(kept.ports, anew, "{services:?}");
    }
    assert_eq!(kept.ports, HealthPorts::default());
}
