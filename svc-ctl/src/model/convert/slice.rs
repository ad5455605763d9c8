//! Converts EndpointSlices.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1 as discovery;

use super::{
    ANNOTATION_TRIGGER_TIME, Converted, LABEL_HEADLESS, LABEL_SERVICE_NAME, Refusals, Scope, has_label,
    interned, interned_service, label, slice_key,
};
use crate::model::endpoint::{Endpoint, Hints, Hostnames, PodNames, Slice, SlicePort, Triggered};
use crate::model::name::IpFamily;
use crate::model::parse::{parse_ip, parse_label, parse_port};

/// Converts a slice. `None` if it belongs to a headless Service and no DNS server reads the model, or if its
/// addresses are host names (SEM-004, SEM-043).
pub fn convert_slice(object: &discovery::EndpointSlice, scope: Scope) -> Converted<Slice> {
    let mut refusals = Refusals::new("EndpointSlice", &object.metadata);
    if !refusals.has_name(&object.metadata) {
        return refusals.done(None);
    }
    let is_headless = has_label(&object.metadata, LABEL_HEADLESS);
    if (is_headless && scope == Scope::Tables) || object.address_type == "FQDN" {
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
    let service = interned_service(&key.namespace, service);
    let ports = convert_slice_ports(object, &mut refusals);
    let (mut endpoints, mut hostnames, mut pods) = (Vec::new(), Vec::new(), Vec::new());
    for (i, listed) in object.endpoints.iter().flatten().enumerate() {
        let Some(endpoint) = convert_endpoint(i, listed, family, &mut refusals) else { continue };
        endpoints.push(endpoint);
        pods.push(pod_name(listed, &key.namespace));
        if scope == Scope::TablesAndNames {
            hostnames.push(convert_hostname(i, listed, &mut refusals));
        }
    }
    endpoints.shrink_to_fit();
    let hostnames = Hostnames::from_iter(hostnames);
    let pods = PodNames::from_iter(pods);
    let triggered = Triggered(triggered(object));
    refusals.done(Some(Slice {
        key,
        service,
        family,
        ports,
        endpoints,
        hostnames,
        pods,
        is_headless,
        triggered,
    }))
}

/// The Pod behind an endpoint, which is in the slice's namespace if the reference names none.
fn pod_name(endpoint: &discovery::Endpoint, namespace: &str) -> Option<String> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let name = target.name.as_deref().filter(|name| !name.is_empty())?;
    Some(format!("{}/{name}", target.namespace.as_deref().unwrap_or(namespace)))
}

/// Refuses an invalid host name. The endpoint's DNS name is then made from its address.
fn convert_hostname(i: usize, endpoint: &discovery::Endpoint, refusals: &mut Refusals) -> Option<Arc<str>> {
    let text = endpoint.hostname.as_deref().filter(|name| !name.is_empty())?;
    refusals.keep(format!("endpoints[{i}].hostname"), parse_label(text)).map(interned)
}

/// The annotation is only used for metrics, so an invalid time is ignored.
fn triggered(object: &discovery::EndpointSlice) -> Option<u64> {
    let text = object.metadata.annotations.as_ref()?.get(ANNOTATION_TRIGGER_TIME)?;
    u64::try_from(text.parse::<Timestamp>().ok()?.as_millisecond()).ok()
}

fn convert_slice_ports(object: &discovery::EndpointSlice, refusals: &mut Refusals) -> Vec<SlicePort> {
    let mut ports = Vec::new();
    for (i, port) in object.ports.iter().flatten().enumerate() {
        // kube-proxy does not implement a port without a name or number either (SEM-045).
        let (Some(name), Some(number)) = (&port.name, port.port.filter(|&n| n != 0)) else {
            refusals.refuse(format!("ports[{i}]"), "a port needs a name (it may be empty) and a number");
            continue;
        };
        let proto = refusals.proto(format!("ports[{i}].protocol"), port.protocol.as_deref());
        let number = refusals.keep(format!("ports[{i}].port"), parse_port(number));
        if let (Some(proto), Some(port)) = (proto, number) {
            ports.push(SlicePort { name: interned(name), proto, port });
        }
    }
    ports.shrink_to_fit();
    ports
}

fn convert_endpoint(
    i: usize,
    endpoint: &discovery::Endpoint,
    family: IpFamily,
    refusals: &mut Refusals,
) -> Option<Endpoint> {
    // Only the first address is used; they are interchangeable (SEM-044).
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
    // Missing conditions mean ready, serving, not terminating (SEM-048).
    let conditions = endpoint.conditions.as_ref();
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|h| h.for_zones.as_ref()).into_iter().flatten();
    let nodes = hints.and_then(|h| h.for_nodes.as_ref()).into_iter().flatten();
    Some(Endpoint {
        addr,
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: endpoint.node_name.as_deref().filter(|n| !n.is_empty()).map(interned),
        hints: Hints::new(zones.map(|z| interned(&z.name)), nodes.map(|n| interned(&n.name))),
    })
}
