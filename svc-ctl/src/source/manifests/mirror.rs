//! Does the work of the mirroring controller: hand-written Endpoints of a Service without a selector become slices (SEM-040).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::health::Health;
use super::pods::{node_name, reference};
use crate::model::convert::LABEL_SERVICE_NAME;
use crate::model::name::IpFamily;
use crate::model::parse::parse_ip;

const LABEL_SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const ANNOTATION_LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses mirrored of one subset.
const MAX_ADDRESSES: usize = 1000;

/// The slices that mirror an Endpoints object; none if it is not to be mirrored.
pub fn slices_of_endpoints(endpoints: &Endpoints, service: Option<&Service>) -> Vec<EndpointSlice> {
    let meta = &endpoints.metadata;
    let skip = meta.labels.as_ref().and_then(|l| l.get(LABEL_SKIP)).is_some_and(|v| v == "true")
        || meta.annotations.as_ref().is_some_and(|a| a.contains_key(ANNOTATION_LEADER));
    let selector = service.and_then(|s| s.spec.as_ref()).and_then(|s| s.selector.as_ref());
    if skip || service.is_none() || selector.is_some_and(|s| !s.is_empty()) {
        return Vec::new();
    }
    let mut slices = Vec::new();
    for (n, subset) in endpoints.subsets.iter().flatten().enumerate() {
        for family in IpFamily::ALL {
            let list = mirror_addresses(subset, family);
            if !list.is_empty() {
                slices.push(mirror(meta, &format!("{n}:{}", family.label()), family, subset, list));
            }
        }
    }
    slices
}

fn mirror_addresses(subset: &EndpointSubset, family: IpFamily) -> Vec<Endpoint> {
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    let unready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
    let mut seen = BTreeSet::new();
    let all = ready.chain(unready).take(MAX_ADDRESSES);
    // An address that is none goes with IPv4, to be rejected by name.
    let wanted =
        |a: &EndpointAddress| parse_ip(&a.ip).map_or(family == IpFamily::V4, |ip| IpFamily::of(ip) == family);
    all.filter(|(a, _)| wanted(a) && seen.insert(a.ip.as_str()))
        .map(|(address, ready)| Endpoint {
            addresses: vec![address.ip.clone()],
            conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
            hostname: address.hostname.clone(),
            node_name: address.node_name.clone(),
            ..Endpoint::default()
        })
        .collect()
}

fn mirror(
    meta: &ObjectMeta,
    suffix: &str,
    family: IpFamily,
    subset: &EndpointSubset,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let name = meta.name.clone().unwrap_or_default();
    let ports = subset.ports.iter().flatten().map(|p| EndpointPort {
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: p.protocol.clone(),
        app_protocol: None,
    });
    EndpointSlice {
        address_type: family.label().to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.collect()),
        metadata: ObjectMeta {
            name: Some(format!("{name}:mirror:{suffix}")),
            namespace: meta.namespace.clone(),
            labels: Some(BTreeMap::from([(LABEL_SERVICE_NAME.to_owned(), name)])),
            ..ObjectMeta::default()
        },
    }
}

/// Adds the fields that Kubernetes' controllers always write and people seldom do: the node of the Pod with that
/// address, and whether it is ready; and the Pod itself. Fields in the manifest have precedence, except for a node that does not answer.
pub fn complete(slice: &mut EndpointSlice, pods: &BTreeMap<IpAddr, &Pod>, health: &Health) {
    for endpoint in slice.endpoints.iter_mut().flatten() {
        let addr = endpoint.addresses.first().and_then(|a| parse_ip(a).ok());
        let pod = addr.and_then(|a| pods.get(&a));
        if endpoint.node_name.is_none() {
            endpoint.node_name = pod.and_then(|pod| node_name(pod)).map(str::to_owned);
        }
        if endpoint.target_ref.is_none() {
            endpoint.target_ref = pod.map(|pod| reference(pod));
        }
        let is_down = endpoint.node_name.as_deref().is_some_and(|node| health.is_down(node));
        let is_written = endpoint.conditions.as_ref().is_some_and(|c| c.ready.is_some());
        if is_down || (!is_written && pod.is_some_and(|pod| !health.is_well(pod))) {
            let conditions = endpoint.conditions.get_or_insert_default();
            (conditions.ready, conditions.serving) = (Some(false), Some(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrored(endpoints: &str, service: Option<&str>) -> Vec<String> {
        let endpoints: Endpoints = serde_yaml_ng::from_str(endpoints).unwrap();
        let service: Option<Service> = service.map(|s| serde_yaml_ng::from_str(s).unwrap());
        let slices = slices_of_endpoints(&endpoints, service.as_ref());
        let line = |s: &EndpointSlice| {
            let list = s.endpoints.iter().flatten().map(|e| {
                let ready = e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
                format!("{}{}", e.addresses[0], if ready { "" } else { "!" })
            });
            format!("{} {}", s.address_type, list.collect::<Vec<_>>().join(" "))
        };
        slices.iter().map(line).collect()
    }

    const ENDPOINTS: &str = "{metadata: {name: db}, subsets: [{addresses: [{ip: 10.0.0.1}, {ip: 'fd00::1'}],
        notReadyAddresses: [{ip: 10.0.0.2}], ports: [{port: 5432}]}]}";
    const SERVICE: &str = "{metadata: {name: db}, spec: {clusterIP: 10.96.0.1}}";

    #[test]
    fn sem_040_endpoints_of_a_service_without_a_selector_are_mirrored() {
        assert_eq!(mirrored(ENDPOINTS, Some(SERVICE)), ["IPv4 10.0.0.1 10.0.0.2!", "IPv6 fd00::1"]);
    }

    #[test]
    fn sem_040_other_endpoints_are_not_mirrored() {
        assert!(mirrored(ENDPOINTS, None).is_empty());
        let selector = SERVICE.replace("spec: {", "spec: {selector: {a: b}, ");
        assert!(mirrored(ENDPOINTS, Some(&selector)).is_empty());
        for meta in [
            "name: db, labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}",
            "name: db, annotations: {control-plane.alpha.kubernetes.io/leader: x}",
        ] {
            assert!(mirrored(&ENDPOINTS.replace("name: db", meta), Some(SERVICE)).is_empty());
        }
    }
}
