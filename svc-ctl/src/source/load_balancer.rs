//! Services that ask for a load-balancer address, from Kubernetes' objects, and the status that they get.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus,
};

use crate::lb::request::{Request, Sharing};
use crate::lb::settings::LoadBalancerSettings;
use crate::model::convert::LABEL_EXCLUDED;
use crate::model::convert::service_name;
use crate::model::name::{IpFamily, proto_from_label};
use crate::model::parse::{parse_ip, parse_port};

/// Annotations with the same meaning: svc's, MetalLB's by both of its names, and Cilium's.
const ADDRESSES: [&str; 4] = [
    "svc/load-balancer-ips",
    "metallb.io/loadBalancerIPs",
    "metallb.universe.tf/loadBalancerIPs",
    "lbipam.cilium.io/ips",
];
const POOL: [&str; 3] =
    ["svc/load-balancer-pool", "metallb.io/address-pool", "metallb.universe.tf/address-pool"];
const SHARING: [&str; 4] = [
    "svc/load-balancer-sharing",
    "metallb.io/allow-shared-ip",
    "metallb.universe.tf/allow-shared-ip",
    "lbipam.cilium.io/sharing-key",
];
const REQUESTED: &str = "spec.loadBalancerIP";

/// The request of a Service; `None` if svc does not serve it. An error names the field and the reason.
pub fn request(
    service: &Service,
    settings: &LoadBalancerSettings,
) -> Result<Option<Request>, (String, String)> {
    let Some(spec) = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
    else {
        return Ok(None);
    };
    if !settings.serves(spec.load_balancer_class.as_deref()) {
        return Ok(None);
    }
    let named = annotation(service, &ADDRESSES);
    let written = spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty());
    if let (Some((field, _)), Some(_)) = (&named, written) {
        return Err((field.clone(), format!("{REQUESTED} asks for an address too: one of them has to go")));
    }
    let asked = named.or_else(|| written.map(|ip| (REQUESTED.to_owned(), ip)));
    let addresses = match asked {
        None => Vec::new(),
        Some((field, text)) => {
            let ips = text.split(',').map(|ip| parse_ip(ip.trim()));
            ips.collect::<Result<Vec<IpAddr>, String>>().map_err(|reason| (field, reason))?
        }
    };
    Ok(Some(Request {
        service: service_name(&service.metadata),
        labels: service.metadata.labels.clone().unwrap_or_default(),
        created: created(service),
        needs_all: spec.ip_family_policy.as_deref() == Some("RequireDualStack"),
        families: families(spec),
        addresses,
        pool: annotation(service, &POOL).map(|(_, name)| name.to_owned()),
        sharing: sharing(service, spec),
    }))
}

/// The request of a Service that must keep these addresses and get no others, because its own request is unclear.
pub fn unchanged(service: &Service, addresses: &[IpAddr]) -> Request {
    let meta = &service.metadata;
    Request {
        service: service_name(&service.metadata),
        labels: meta.labels.clone().unwrap_or_default(),
        created: created(service),
        needs_all: false,
        families: addresses.iter().map(|ip| IpFamily::of(*ip)).collect(),
        addresses: addresses.to_vec(),
        pool: None,
        sharing: service.spec.as_ref().and_then(|spec| sharing(service, spec)),
    }
}

/// The first of these annotations that the Service has: its field and value.
fn annotation<'a>(service: &'a Service, names: &[&'static str]) -> Option<(String, &'a str)> {
    names.iter().find_map(|name| {
        let value = service.metadata.annotations.as_ref()?.get(*name)?;
        Some((format!("metadata.annotations[{name}]"), value.as_str()))
    })
}

fn created(service: &Service) -> Option<i64> {
    service.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second())
}

/// The families of the Service's ClusterIPs, in their order: an address of another family would serve no client.
fn families(spec: &ServiceSpec) -> Vec<IpFamily> {
    let written = spec.cluster_ips.iter().flatten().filter_map(|ip| parse_ip(ip).ok());
    let single = spec.cluster_ip.iter().filter_map(|ip| parse_ip(ip).ok());
    let mut families: Vec<IpFamily> = Vec::new();
    for family in written.chain(single).map(IpFamily::of) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

fn sharing(service: &Service, spec: &ServiceSpec) -> Option<Sharing> {
    let (_, key) = annotation(service, &SHARING)?;
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let proto = proto_from_label(port.protocol.as_deref().unwrap_or("TCP"))?;
        Some((proto, parse_port(port.port).ok()?.get()))
    });
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    Some(Sharing {
        key: key.to_owned(),
        ports: ports.collect::<BTreeSet<_>>(),
        local_selector: is_local.then(|| spec.selector.clone().unwrap_or_default()),
    })
}

/// Addresses that the object's own status has.
pub fn written(service: &Service) -> Vec<IpAddr> {
    let ingress = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|entry| parse_ip(entry.ip.as_deref()?).ok()).collect()
}

/// The status with these addresses.
pub fn with_addresses(service: &mut Service, addresses: &[IpAddr]) {
    let ingress = addresses.iter().map(|ip| LoadBalancerIngress {
        ip: Some(ip.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    });
    let status = service.status.get_or_insert_with(ServiceStatus::default);
    status.load_balancer = Some(LoadBalancerStatus { ingress: Some(ingress.collect()) });
}

/// The node's labels exclude it from load balancing.
pub fn is_excluded(labels: Option<&BTreeMap<String, String>>) -> bool {
    labels.is_some_and(|labels| labels.contains_key(LABEL_EXCLUDED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(yaml: &str) -> Result<Option<Request>, (String, String)> {
        request(&serde_yaml_ng::from_str(yaml).unwrap(), &LoadBalancerSettings::default())
    }

    #[test]
    fn sem_302_annotations_of_others_are_understood() {
        for name in ADDRESSES {
            let yaml = format!(
                "{{metadata: {{name: web, annotations: {{{name}: '192.0.2.1, 2001:db8::1'}}}},
                  spec: {{type: LoadBalancer, clusterIPs: [10.0.0.1, fd00::1]}}}}"
            );
            let request = asked(&yaml).unwrap().unwrap();
            assert_eq!(request.addresses.len(), 2, "{name}");
            assert_eq!(request.families, [IpFamily::V4, IpFamily::V6]);
        }
        let spec = "spec: {type: LoadBalancer, clusterIP: 10.0.0.1, loadBalancerIP: 192.0.2.1}";
        assert_eq!(
            asked(&format!("{{metadata: {{name: web}}, {spec}}}")).unwrap().unwrap().addresses.len(),
            1
        );
        let both = format!(
            "{{metadata: {{name: web, annotations: {{metallb.io/loadBalancerIPs: 192.0.2.2}}}}, {spec}}}"
        );
        assert!(asked(&both).unwrap_err().1.starts_with("spec.loadBalancerIP asks for an address too"));
        let wrong = "{metadata: {name: web}, spec: {type: LoadBalancer, loadBalancerIP: web}}";
        assert_eq!(asked(wrong).unwrap_err().0, "spec.loadBalancerIP");
    }

    #[test]
    fn a_service_of_another_type_or_class_is_left_alone() {
        for spec in ["{type: NodePort}", "{type: LoadBalancer, loadBalancerClass: example.com/lb}", "{}"] {
            assert_eq!(asked(&format!("{{metadata: {{name: web}}, spec: {spec}}}")), Ok(None), "{spec}");
        }
    }
}
