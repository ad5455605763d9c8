//! Kubernetes objects into the model: the single place that parses and rejects. A rejection names the object and the
//! field; the rest of the object is used where that makes sense.

mod node;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use svc_common::addr::Proto;

pub use self::node::convert_node;
use super::endpoint::{Endpoint, Slice, SlicePort};
use super::name::{IpFamily, ServiceName, SliceKey, proto_from_label};
use super::parse::{parse_cidr, parse_ip, parse_port};
use super::rejected::Rejected;
use super::service::{Selection, Service, ServiceAddresses, ServicePort};
use super::store::Converted;

/// Services with this label are another proxy's (SEM-003).
pub const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Slices with this label are of headless Services (SEM-004).
pub const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// The Service a slice belongs to (SEM-042).
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How backends of this Service are chosen: `random` or `maglev`.
pub const ANNOTATION_SELECTION: &str = "svc/selection";
/// What a Service may be; an absent type is the first.
const TYPES: [&str; 5] = ["", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
/// The zone of a node.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

/// Namespace and name; an absent namespace is `default`, as everywhere in Kubernetes.
pub fn slice_key(meta: &ObjectMeta) -> SliceKey {
    let namespace = meta.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
    SliceKey::new(namespace, meta.name.as_deref().unwrap_or_default())
}

fn has_label(meta: &ObjectMeta, label: &str) -> bool {
    meta.labels.as_ref().is_some_and(|l| l.contains_key(label))
}

fn label<'a>(meta: &'a ObjectMeta, label: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(label).map(String::as_str).filter(|v| !v.is_empty())
}

/// Collects what is refused of one object.
struct Refusals {
    object: String,
    rejected: Vec<Rejected>,
}

impl Refusals {
    fn new(kind: &str, meta: &ObjectMeta) -> Self {
        let key = slice_key(meta);
        let object = match kind {
            "Node" => format!("Node {}", key.name),
            _ => format!("{kind} {}/{}", key.namespace, key.name),
        };
        Self { object, rejected: Vec::new() }
    }

    fn refuse(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.rejected.push(Rejected::new(self.object.as_str(), field, reason));
    }

    fn keep<T>(&mut self, field: impl Into<String>, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|reason| self.refuse(field, reason)).ok()
    }

    fn proto(&mut self, field: String, label: Option<&str>) -> Option<Proto> {
        let label = label.unwrap_or("TCP");
        let reason = || format!("{label:?} is not a protocol (TCP, UDP, SCTP)");
        self.keep(field, proto_from_label(label).ok_or_else(reason))
    }

    /// Whether the object can be told from others.
    fn has_name(&mut self, meta: &ObjectMeta) -> bool {
        let has_name = meta.name.as_ref().is_some_and(|name| !name.is_empty());
        if !has_name {
            self.refuse("metadata.name", "missing");
        }
        has_name
    }

    fn is_local(&mut self, field: &str, policy: Option<&str>) -> bool {
        match policy {
            Some("Local") => true,
            None | Some("" | "Cluster") => false,
            Some(other) => {
                self.refuse(field, format!("{other:?} is not a policy (Cluster, Local): Cluster is used"));
                false
            }
        }
    }

    fn done<T>(self, value: Option<T>) -> Converted<T> {
        Converted { value, rejected: self.rejected }
    }
}

/// A Service, or nothing if it is not for us: headless, ExternalName, another proxy's (SEM-001 to SEM-003).
pub fn convert_service(object: &core::Service) -> Converted<Service> {
    let mut refusals = Refusals::new("Service", &object.metadata);
    if !refusals.has_name(&object.metadata) {
        return refusals.done(None);
    }
    let Some(spec) = &object.spec else { return refusals.done(None) };
    let foreign = has_label(&object.metadata, LABEL_PROXY_NAME);
    let cluster_ips = cluster_ips(spec);
    let headless = cluster_ips.first().is_some_and(|&ip| ip == "None");
    if foreign || headless || spec.type_.as_deref() == Some("ExternalName") {
        return refusals.done(None);
    }
    let mut families = convert_cluster_ips(spec, &cluster_ips, &mut refusals);
    if cluster_ips.is_empty() {
        refusals.refuse("spec.clusterIP", "missing, and no API server is here to allocate one");
    }
    convert_addresses(object, spec, &mut families, &mut refusals);
    let ports = convert_service_ports(spec, &mut refusals);
    let affinity = convert_affinity(spec, &mut refusals);
    let health_check_port = convert_health_check_port(spec, &mut refusals);
    let annotations = object.metadata.annotations.as_ref();
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
    let key = slice_key(&object.metadata);
    let service = Service {
        name: ServiceName { namespace: key.namespace, name: key.name },
        created: object.metadata.creation_timestamp.as_ref().map(|t| t.0.as_second()),
        families,
        ports,
        internal_local,
        external_local: has_external_policy && external_local,
        affinity,
        selection,
        health_check_port,
    };
    refusals.done(Some(service))
}

/// `clusterIPs`, or `clusterIP` where only that is written; "None" stands first if at all.
fn cluster_ips(spec: &core::ServiceSpec) -> Vec<&str> {
    let all = spec.cluster_ips.iter().flatten().map(String::as_str).filter(|ip| !ip.is_empty());
    let all: Vec<&str> = all.collect();
    match spec.cluster_ip.as_deref() {
        Some(ip) if !ip.is_empty() && (all.is_empty() || ip == "None") => vec![ip],
        _ => all,
    }
}

/// One entry per family: `clusterIPs[i]` goes with `ipFamilies[i]` (SEM-006), or with its own family where
/// `ipFamilies` is absent.
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

/// External IPs, load-balancer IPs and source ranges, each to its family; of a family without ClusterIP nothing is
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
        // "Proxy": the balancer hands over to node ports; its address is left alone (SEM-013).
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
    // Somebody wanted to shut most clients out: what is left must not let all of them in.
    if has_bad_range {
        families.iter_mut().filter(|f| f.source_ranges.is_empty()).for_each(|f| f.load_balancer_ips.clear());
    }
}

/// Seconds of affinity, three hours where nothing (sensible) is said (SEM-035).
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
        let name: Arc<str> = port.name.as_deref().unwrap_or_default().into();
        let Some(proto) = refusals.proto(format!("spec.ports[{i}].protocol"), port.protocol.as_deref())
        else {
            continue;
        };
        if proto == Proto::SCTP {
            refusals.refuse(format!("spec.ports[{i}].protocol"), "SCTP is not supported yet");
            continue;
        }
        let Some(number) = refusals.keep(format!("spec.ports[{i}].port"), parse_port(port.port)) else {
            continue;
        };
        let node_port = port.node_port.filter(|&n| n != 0).and_then(|n| {
            let field = format!("spec.ports[{i}].nodePort");
            refusals.keep(field, parse_port(n))
        });
        if node_port.is_none() && port.node_port.is_none() && spec.type_.as_deref() == Some("NodePort") {
            let field = format!("spec.ports[{i}].nodePort");
            refusals.refuse(field, "missing, and no API server is here to allocate one");
        }
        if ports.iter().any(|p| p.name == name && p.proto == proto) {
            let reason = format!("a second port with the name {name:?} and the same protocol");
            refusals.refuse(format!("spec.ports[{i}].name"), reason);
            continue;
        }
        ports.push(ServicePort { name, proto, port: number, node_port });
    }
    ports
}

/// A slice, or nothing if it is of a headless Service or has host names for addresses (SEM-004, SEM-043).
pub fn convert_slice(object: &discovery::EndpointSlice) -> Converted<Slice> {
    let mut refusals = Refusals::new("EndpointSlice", &object.metadata);
    if !refusals.has_name(&object.metadata) {
        return refusals.done(None);
    }
    if has_label(&object.metadata, LABEL_HEADLESS) || object.address_type == "FQDN" {
        return refusals.done(None);
    }
    let key = slice_key(&object.metadata);
    let Some(service) = label(&object.metadata, LABEL_SERVICE_NAME) else {
        refusals.refuse(format!("metadata.labels.{LABEL_SERVICE_NAME}"), "missing: no Service to belong to");
        return refusals.done(None);
    };
    let Some(family) = IpFamily::from_label(&object.address_type) else {
        let reason = format!("{:?} is not an address type (IPv4, IPv6, FQDN)", object.address_type);
        refusals.refuse("addressType", reason);
        return refusals.done(None);
    };
    let service = ServiceName { namespace: Arc::clone(&key.namespace), name: service.into() };
    let ports = convert_slice_ports(object, &mut refusals);
    let endpoints = object.endpoints.iter().flatten().enumerate();
    let endpoints = endpoints.filter_map(|(i, e)| convert_endpoint(i, e, family, &mut refusals)).collect();
    refusals.done(Some(Slice { key, service, family, ports, endpoints }))
}

fn convert_slice_ports(object: &discovery::EndpointSlice, refusals: &mut Refusals) -> Vec<SlicePort> {
    let mut ports = Vec::new();
    for (i, port) in object.ports.iter().flatten().enumerate() {
        // A port without a name or a number is not implemented by kube-proxy either (SEM-045).
        let (Some(name), Some(number)) = (&port.name, port.port.filter(|&n| n != 0)) else {
            refusals.refuse(format!("ports[{i}]"), "a port needs a name (it may be empty) and a number");
            continue;
        };
        let proto = refusals.proto(format!("ports[{i}].protocol"), port.protocol.as_deref());
        let number = refusals.keep(format!("ports[{i}].port"), parse_port(number));
        if let (Some(proto), Some(port)) = (proto, number) {
            ports.push(SlicePort { name: name.as_str().into(), proto, port });
        }
    }
    ports
}

fn convert_endpoint(
    i: usize,
    endpoint: &discovery::Endpoint,
    family: IpFamily,
    refusals: &mut Refusals,
) -> Option<Endpoint> {
    // Only the first address counts; they are interchangeable (SEM-044).
    let text = endpoint.addresses.first()?;
    let field = format!("endpoints[{i}].addresses[0]");
    let addr = refusals.keep(field.as_str(), parse_ip(text))?;
    if IpFamily::of(addr) != family {
        refusals.refuse(field, format!("{text} is not of the slice's addressType {}", family.label()));
        return None;
    }
    if addr.is_unspecified() || addr.is_multicast() {
        refusals.refuse(field, format!("{text} cannot be the address of an endpoint"));
        return None;
    }
    // What is not said counts as ready, serving, not terminating (SEM-048).
    let conditions = endpoint.conditions.as_ref();
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|h| h.for_zones.as_ref()).into_iter().flatten();
    let nodes = hints.and_then(|h| h.for_nodes.as_ref()).into_iter().flatten();
    Some(Endpoint {
        addr,
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: endpoint.node_name.as_deref().filter(|n| !n.is_empty()).map(Arc::from),
        zone_hints: zones.map(|z| Arc::from(z.name.as_str())).collect::<BTreeSet<_>>(),
        node_hints: nodes.map(|n| Arc::from(n.name.as_str())).collect::<BTreeSet<_>>(),
    })
}

#[cfg(test)]
mod tests;
