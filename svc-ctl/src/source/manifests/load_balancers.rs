//! Load-balancer addresses for the Services of manifests: every node finds the same ones by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};

use super::health::heartbeat;
use crate::lb::allocate::{Foreign, Given, Order, allocate};
use crate::lb::settings::LoadBalancerSettings;
use crate::lb::usage::PoolsUse;
use crate::lb::{Member, Members};
use crate::model::complaint::{Complaint, Kind};
use crate::model::name::ServiceName;
use crate::source::load_balancer::{is_excluded, request, unchanged, with_addresses, written};

type Key = (String, String);

/// Gives each Service that asks for it an address of the pools, unless the manifest writes one. `given` has the earlier
/// addresses, and afterwards the new ones. Returns the use of the pools.
pub fn assign<'a>(
    services: &mut BTreeMap<Key, Service>,
    nodes: impl Iterator<Item = &'a Node>,
    service_cidrs: &[IpNet],
    settings: &LoadBalancerSettings,
    given: &mut BTreeMap<String, Vec<IpAddr>>,
) -> (Vec<Complaint>, PoolsUse) {
    if settings.pools.is_empty() {
        given.clear();
        return (Vec::new(), PoolsUse::default());
    }
    let own: BTreeMap<IpAddr, String> = nodes
        .flat_map(|node| {
            let name = node.metadata.name.clone().unwrap_or_default();
            heartbeat::addresses(node).map(move |ip| (ip, name.clone()))
        })
        .collect();
    let (pools, refused) = settings.pools.without(&own, service_cidrs);
    let mut complaints: Vec<Complaint> = refused
        .into_iter()
        .map(|(name, error)| {
            let object = format!("loadBalancer pool {name}");
            Complaint::new(Kind::Configuration, object, error.field(), error.to_string())
        })
        .collect();
    let complain = |service: &ServiceName, field: &str, reason: String| {
        Complaint::of_service(Kind::Refused, service, field, reason)
    };
    let mut requests = Vec::new();
    let (mut keys, mut unclear) = (BTreeMap::new(), 0);
    let name = |key: &Key| format!("{}/{}", key.0, key.1);
    let mut foreign = Foreign::new();
    for (key, service) in services.iter() {
        let service_name = ServiceName::new(&key.0, &key.1);
        let written = written(service);
        if !written.is_empty() {
            foreign.extend(written.into_iter().map(|ip| (ip, service_name.clone())));
            continue;
        }
        let request = match request(service, settings) {
            Ok(Some(request)) => request,
            Ok(None) => continue,
            Err((field, reason)) => {
                unclear += 1;
                complaints.push(complain(&service_name, &field, reason));
                unchanged(service, given.get(&name(key)).map_or(&[][..], Vec::as_slice))
            }
        };
        keys.insert(request.service.clone(), key.clone());
        requests.push(request);
    }
    let previous: Given = keys
        .iter()
        .filter_map(|(service, key)| Some((service.clone(), given.get(&name(key))?.clone())))
        .collect();
    let allocation = allocate(&requests, &pools, &previous, &foreign, Order::ByName);
    given.clear();
    for (service, addresses) in &allocation.given {
        let Some(key) = keys.get(service) else { continue };
        if let Some(service) = services.get_mut(key) {
            with_addresses(service, addresses);
        }
        given.insert(name(key), addresses.clone());
    }
    let in_use: BTreeSet<IpAddr> = services.values().flat_map(written).collect();
    let mut usage = PoolsUse::of(&pools, &allocation, &in_use);
    usage.refused += unclear;
    let reasons = allocation.reasons.iter();
    complaints.extend(
        reasons.map(|(service, reason)| complain(service, "status.loadBalancer", reason.to_string())),
    );
    (complaints, usage)
}

/// All nodes of the manifests, and which of them do not answer.
pub fn members(nodes: &[&Node], silent: &BTreeSet<String>) -> Members {
    let member = |node: &&Node| {
        let name = node.metadata.name.clone().unwrap_or_default();
        let member = Member {
            addresses: heartbeat::addresses(node).collect(),
            macs: BTreeSet::new(),
            is_up: !silent.contains(&name),
            is_excluded: is_excluded(node.metadata.labels.as_ref()),
            refuses: BTreeSet::new(),
        };
        (name, member)
    };
    nodes.iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_gets_an_address_that_stays_and_a_manifest_may_write_it() {
        let section =
            "{pools: [{name: a, addresses: [192.0.2.0/24]}, {name: b, addresses: [198.51.100.0/24]}]}";
        let settings = LoadBalancerSettings::read(serde_yaml_ng::from_str(section).unwrap()).0;
        let service = |yaml: &str| serde_yaml_ng::from_str::<Service>(yaml).unwrap();
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        let web = service(
            "{metadata: {name: web, namespace: shop}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}}",
        );
        let wrote = service(
            "{metadata: {name: wrote, namespace: shop}, spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}}",
        );
        let node = serde_yaml_ng::from_str::<Node>(
            "{metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 198.51.100.1}]}}",
        )
        .unwrap();
        let mut given = BTreeMap::from([("shop/web".to_owned(), vec!["192.0.2.77".parse().unwrap()])]);
        let mut services = BTreeMap::from([(key("web"), web), (key("wrote"), wrote)]);
        let (complaints, usage) = assign(&mut services, [&node].into_iter(), &[], &settings, &mut given);
        let reported: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        assert_eq!(
            reported,
            [
                "loadBalancer pool b: addresses: it holds 198.51.100.1, an address of Node a: no Service gets this address"
            ]
        );
        let ips = |name: &str| written(&services[&key(name)]);
        assert_eq!(ips("web"), ["192.0.2.77".parse::<IpAddr>().unwrap()]);
        assert_eq!(ips("wrote"), ["203.0.113.1".parse::<IpAddr>().unwrap()]);
        let ingress = services[&key("web")].status.as_ref().unwrap().load_balancer.as_ref().unwrap();
        assert_eq!(ingress.ingress.as_ref().unwrap()[0].ip_mode.as_deref(), Some("VIP"));
        assert_eq!(given.len(), 1);
        let rows = usage.pools.iter().map(|row| (row.pool.as_str(), row.addresses, row.in_use));
        assert_eq!(rows.collect::<Vec<_>>(), [("a", 256, 1), ("b", 255, 0)]);
    }

    #[test]
    fn an_address_that_a_manifest_writes_and_one_of_an_unclear_service_go_to_no_other_service() {
        let section = "{pools: [{name: a, addresses: [192.0.2.0/31]}]}";
        let settings = LoadBalancerSettings::read(serde_yaml_ng::from_str(section).unwrap()).0;
        let service = |yaml: &str| serde_yaml_ng::from_str::<Service>(yaml).unwrap();
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        let wrote = service(
            "{metadata: {name: wrote, namespace: shop}, spec: {type: LoadBalancer, loadBalancerClass: a/b}, status: {loadBalancer: {ingress: [{ip: 192.0.2.0}]}}}",
        );
        let unclear = service(
            "{metadata: {name: unclear, namespace: shop}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1, loadBalancerIP: web}}",
        );
        let new = service(
            "{metadata: {name: new, namespace: shop}, spec: {type: LoadBalancer, clusterIP: 10.0.0.2}}",
        );
        let mut given = BTreeMap::from([("shop/unclear".to_owned(), vec!["192.0.2.1".parse().unwrap()])]);
        let all = [("wrote", wrote), ("unclear", unclear), ("new", new)];
        let mut services: BTreeMap<Key, Service> = all.map(|(name, service)| (key(name), service)).into();
        let complaints = assign(&mut services, [].iter(), &[], &settings, &mut given).0;
        let reported: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        assert_eq!(written(&services[&key("new")]), Vec::<IpAddr>::new(), "{reported:?}");
        assert_eq!(given["shop/unclear"], ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert!(reported.iter().any(|text| text.contains("spec.loadBalancerIP")), "{reported:?}");
    }
}
