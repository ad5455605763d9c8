//! Converts Services.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use super::{
    ANNOTATION_OWN_ADDRESS, ANNOTATION_SELECTION, Converted, LABEL_PROXY_NAME, NO_ALLOCATOR, Refusals,
    has_label, interned, service_name,
};
use crate::model::name::IpFamily;
use crate::model::parse::{parse_cidr, parse_ip, parse_port};
use crate::model::service::{Selection, Service, ServiceAddresses, ServicePort};

/// Valid types of a Service; a missing type is valid, too.
const TYPES: [&str; 5] = ["", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];

/// Converts a Service; `None` if svc does not proxy it: headless, ExternalName, another proxy's (SEM-001 to SEM-003).
pub fn convert_service(object: &core::Service) -> Converted<Service> {
    let mut refusals = Refusals::new("Service", &object.metadata);
    if !refusals.has_name(&object.metadata) {
        return refusals.done(None);
    }
    let Some(spec) = &object.spec else { return refusals.done(None) };
    if !matches!(ServiceKind::of(object), ServiceKind::Proxied) {
        return refusals.done(None);
    }
    convert_proxied(object, spec, refusals)
}

/// This node's treatment of a Service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ServiceKind {
    Proxied,
    /// Left to another proxy (SEM-003).
    Foreign,
    /// SEM-001.
    Headless,
    /// SEM-002.
    ExternalName,
}

impl ServiceKind {
    pub(super) fn of(object: &core::Service) -> Self {
        let spec = object.spec.as_ref();
        if spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName") {
            Self::ExternalName
        } else if spec.is_some_and(|s| cluster_ips(s).first().is_some_and(|&ip| ip == "None")) {
            Self::Headless
        } else if has_label(&object.metadata, LABEL_PROXY_NAME) {
            Self::Foreign
        } else {
            Self::Proxied
        }
    }
}

/// Converts a Service that has addresses, whichever proxy serves it.
pub(super) fn convert_proxied(
    object: &core::Service,
    spec: &core::ServiceSpec,
    mut refusals: Refusals,
) -> Converted<Service> {
    let cluster_ips = cluster_ips(spec);
    let mut families = convert_cluster_ips(spec, &cluster_ips, &mut refusals);
    if cluster_ips.is_empty() {
        refusals.refuse("spec.clusterIP", NO_ALLOCATOR);
    }
    convert_addresses(object, spec, &mut families, &mut refusals);
    let ports = convert_service_ports(spec, &mut refusals);
    let affinity = convert_affinity(spec, &mut refusals);
    let health_check_port = convert_health_check_port(spec, &mut refusals);
    let annotations = object.metadata.annotations.as_ref();
    let serves_own_address = annotations.and_then(|a| a.get(ANNOTATION_OWN_ADDRESS)).and_then(|text| {
        let reason = |_| format!("{text:?} is neither true nor false");
        let field = format!("metadata.annotations[{ANNOTATION_OWN_ADDRESS}]");
        refusals.keep(field, text.parse::<bool>().map_err(reason))
    });
    let selection = annotations.and_then(|a| a.get(ANNOTATION_SELECTION)).and_then(|text| {
        refusals.keep(format!("metadata.annotations[{ANNOTATION_SELECTION}]"), text.parse::<Selection>())
    });
    if let Some(other) = spec.type_.as_deref().filter(|&t| !TYPES.contains(&t)) {
        refusals.refuse("spec.type", format!("{other:?} is not a type of Service: ClusterIP is used"));
    }
    let internal_local =
        refusals.is_local("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref());
    let external_local =
        refusals.is_local("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref());
    if families.is_empty() {
        return refusals.done(None);
    }
    let has_external_policy = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
        || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    // A label of another Service changes nothing, so that it is not planned anew.
    let has_addresses = families.iter().any(|family| !family.load_balancer_ips.is_empty());
    let labels = object.metadata.labels.as_ref().filter(|labels| has_addresses && !labels.is_empty());
    let labels = labels.map(|labels| Arc::new(labels.clone())).unwrap_or_default();
    let service = Service {
        name: service_name(&object.metadata),
        created: object.metadata.creation_timestamp.as_ref().map(|t| t.0.as_second()),
        families,
        ports,
        internal_local,
        external_local: has_external_policy && external_local,
        affinity,
        selection,
        serves_own_address: serves_own_address.unwrap_or_default(),
        health_check_port,
        labels,
    };
    refusals.done(Some(service))
}

/// `clusterIPs`, or `clusterIP` if only that is set. "None" can only be the first.
fn cluster_ips(spec: &core::ServiceSpec) -> Vec<&str> {
    let all = spec.cluster_ips.iter().flatten().map(String::as_str).filter(|ip| !ip.is_empty());
    let all: Vec<&str> = all.collect();
    match spec.cluster_ip.as_deref() {
        Some(ip) if !ip.is_empty() && (all.is_empty() || ip == "None") => vec![ip],
        _ => all,
    }
}

/// One entry per family: `clusterIPs[i]` belongs to `ipFamilies[i]` (SEM-006), or to its own family if `ipFamilies`
/// is absent.
fn convert_cluster_ips(
    spec: &core::ServiceSpec,
    cluster_ips: &[&str],
    refusals: &mut Refusals,
) -> Vec<ServiceAddresses> {
    let single = cluster_ips.len() == 1 && spec.cluster_ips.is_none();
    let listed = spec.ip_families.as_ref().filter(|f| !f.is_empty());
    let mut families: Vec<ServiceAddresses> = Vec::new();
    for (i, text) in cluster_ips.iter().enumerate() {
        let field = if single { "spec.clusterIP".to_owned() } else { format!("spec.clusterIPs[{i}]") };
        let Some(cluster_ip) = refusals.keep(field.as_str(), parse_service_ip(text)) else { continue };
        let family = IpFamily::of(cluster_ip);
        let expected = listed.map(|f| f.get(i).map_or("no family", String::as_str));
        if let Some(other) = expected.filter(|&label| label != family.label()) {
            refusals.refuse(field, format!("{text} does not belong to spec.ipFamilies[{i}] ({other})"));
        } else if families.iter().any(|f| f.family() == family) {
            refusals.refuse(field, format!("a second ClusterIP of family {}", family.label()));
        } else {
            families.push(ServiceAddresses {
                cluster_ip,
                external_ips: Vec::new(),
                load_balancer_ips: Vec::new(),
                source_ranges: Vec::new(),
            });
        }
    }
    families.shrink_to_fit();
    families
}

/// An address that clients can dial.
fn parse_service_ip(text: &str) -> Result<IpAddr, String> {
    let ip = parse_ip(text)?;
    match ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        true => Err(format!("{text} cannot be the address of a Service")),
        false => Ok(ip),
    }
}

/// Sorts external IPs, load-balancer IPs and source ranges by family. Those of a family without ClusterIP are not
/// used (SEM-005).
fn convert_addresses(
    object: &core::Service,
    spec: &core::ServiceSpec,
    families: &mut [ServiceAddresses],
    refusals: &mut Refusals,
) {
    for (i, text) in spec.external_ips.iter().flatten().enumerate() {
        let field = format!("spec.externalIPs[{i}]");
        let Some(ip) = refusals.keep(field, parse_service_ip(text)) else { continue };
        let family = families.iter_mut().find(|f| f.family() == IpFamily::of(ip));
        family.into_iter().for_each(|f| f.external_ips.push(ip));
    }
    let ingress = object.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    for (i, entry) in ingress.and_then(|l| l.ingress.as_ref()).iter().flat_map(|e| e.iter()).enumerate() {
        // Mode "Proxy": the balancer sends to node ports, so its address is left alone (SEM-013).
        let Some(text) = entry.ip.as_deref().filter(|ip| !ip.is_empty()) else { continue };
        match entry.ip_mode.as_deref() {
            None | Some("VIP") => {}
            Some("Proxy") => continue,
            Some(other) => {
                let field = format!("status.loadBalancer.ingress[{i}].ipMode");
                refusals.refuse(field, format!("{other:?} is not a mode (VIP, Proxy): left alone"));
                continue;
            }
        }
        let field = format!("status.loadBalancer.ingress[{i}].ip");
        let Some(ip) = refusals.keep(field, parse_service_ip(text)) else { continue };
        let family = families.iter_mut().find(|f| f.family() == IpFamily::of(ip));
        family.into_iter().for_each(|f| f.load_balancer_ips.push(ip));
    }
    let mut has_bad_range = false;
    for (i, text) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        let field = format!("spec.loadBalancerSourceRanges[{i}]");
        let Some(range) = refusals.keep(field, parse_cidr(text)) else {
            has_bad_range = true;
            continue;
        };
        let family = families.iter_mut().find(|f| f.family() == IpFamily::of(range.addr()));
        family.into_iter().for_each(|f| f.source_ranges.push(range));
    }
    // The user wanted to exclude most clients: the remaining ranges must not admit all of them.
    if has_bad_range {
        families.iter_mut().filter(|f| f.source_ranges.is_empty()).for_each(|f| f.load_balancer_ips.clear());
    }
    for family in families {
        family.external_ips.shrink_to_fit();
        family.load_balancer_ips.shrink_to_fit();
        family.source_ranges.shrink_to_fit();
    }
}

/// Timeout of session affinity in seconds; three hours if the field is missing or invalid (SEM-035).
fn convert_affinity(spec: &core::ServiceSpec, refusals: &mut Refusals) -> Option<NonZeroU32> {
    const DEFAULT: NonZeroU32 = NonZeroU32::new(10_800).unwrap();
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            refusals.refuse("spec.sessionAffinity", format!("{other:?} is not an affinity (None, ClientIP)"));
            return None;
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let Some(seconds) = config.and_then(|c| c.timeout_seconds) else { return Some(DEFAULT) };
    let valid = u32::try_from(seconds).ok().filter(|s| *s <= 86_400).and_then(NonZeroU32::new);
    let reason = || format!("{seconds} is not between 1 and 86400: {DEFAULT} is used");
    let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    refusals.keep(field, valid.ok_or_else(reason)).or(Some(DEFAULT))
}

/// Only for load balancers that must know which nodes have endpoints (SEM-200).
fn convert_health_check_port(spec: &core::ServiceSpec, refusals: &mut Refusals) -> Option<NonZeroU16> {
    let is_needed = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    let port = spec.health_check_node_port.filter(|&port| is_needed && port != 0)?;
    refusals.keep("spec.healthCheckNodePort", parse_port(port))
}

fn convert_service_ports(spec: &core::ServiceSpec, refusals: &mut Refusals) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let name = interned(port.name.as_deref().unwrap_or_default());
        let Some(proto) = refusals.proto(format!("spec.ports[{i}].protocol"), port.protocol.as_deref())
        else {
            continue;
        };
        let Some(number) = refusals.keep(format!("spec.ports[{i}].port"), parse_port(port.port)) else {
            continue;
        };
        let node_port = port.node_port.filter(|&n| n != 0).and_then(|n| {
            let field = format!("spec.ports[{i}].nodePort");
            refusals.keep(field, parse_port(n))
        });
        if node_port.is_none() && port.node_port.is_none() && spec.type_.as_deref() == Some("NodePort") {
            let field = format!("spec.ports[{i}].nodePort");
            refusals.refuse(field, NO_ALLOCATOR);
        }
        if ports.iter().any(|p| p.name == name && p.proto == proto) {
            let reason = format!("a second port with the name {name:?} and the same protocol");
            refusals.refuse(format!("spec.ports[{i}].name"), reason);
            continue;
        }
        ports.push(ServicePort { name, proto, port: number, node_port });
    }
    ports.shrink_to_fit();
    ports
}
