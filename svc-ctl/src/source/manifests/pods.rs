//! Does the work of the EndpointSlice controller: a Service with a selector gets slices of the Pods its labels match (SEM-049,
//! SEM-050, SEM-054).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::health::Health;
use crate::model::convert::LABEL_SERVICE_NAME;
use crate::model::name::IpFamily;
use crate::model::parse::parse_ip;

/// Zones by node name.
pub type Zones<'a> = BTreeMap<&'a str, &'a str>;

/// The slices of a Service with a selector; none for any other. Pods whose ports resolve alike share a slice.
pub fn slices_of_pods(
    service: &Service,
    pods: &[&Pod],
    zones: &Zones<'_>,
    health: &Health,
) -> Vec<EndpointSlice> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(selector) = spec.selector.as_ref().filter(|s| !s.is_empty()) else { return Vec::new() };
    let publish = spec.publish_not_ready_addresses.unwrap_or(false);
    let matches = |pod: &&&Pod| {
        let labels = pod.metadata.labels.as_ref();
        let has = |(key, value): (&String, &String)| labels.and_then(|l| l.get(key)) == Some(value);
        pod.metadata.namespace == service.metadata.namespace && selector.iter().all(has)
    };
    type Ports = Vec<(String, String, i32)>;
    let mut groups: BTreeMap<(IpFamily, Ports), Vec<Endpoint>> = BTreeMap::new();
    for pod in pods.iter().filter(matches).filter(|p| !is_terminal(p)) {
        let ports: Ports = spec.ports.iter().flatten().filter_map(|port| resolve_port(port, pod)).collect();
        for family in IpFamily::ALL {
            if let Some(addr) = address(pod, family) {
                let mut endpoint = endpoint_of(pod, addr, publish, health);
                endpoint.hostname = hostname(service, pod).map(str::to_owned);
                endpoint.hints = hints(spec.traffic_distribution.as_deref(), pod, zones);
                groups.entry((family, ports.clone())).or_default().push(endpoint);
            }
        }
    }
    let groups = groups.into_iter().enumerate();
    groups.map(|(n, ((family, ports), endpoints))| slice(service, n, family, ports, endpoints)).collect()
}

fn slice(
    service: &Service,
    n: usize,
    family: IpFamily,
    ports: Vec<(String, String, i32)>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let port = |(name, protocol, port)| EndpointPort {
        name: Some(name),
        protocol: Some(protocol),
        port: Some(port),
        ..EndpointPort::default()
    };
    EndpointSlice {
        address_type: family.label().to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.into_iter().map(port).collect()),
        metadata: ObjectMeta {
            // No name that Kubernetes allows: it cannot meet one written by hand.
            name: Some(format!("{name}:pods:{n}")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(BTreeMap::from([(LABEL_SERVICE_NAME.to_owned(), name)])),
            ..ObjectMeta::default()
        },
    }
}

/// Run to completion or evicted: never an endpoint again (SEM-050).
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// The pod's address in a family. Pods on the host's network have the node's.
pub fn address(pod: &Pod, family: IpFamily) -> Option<String> {
    let status = pod.status.as_ref()?;
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let all: Vec<&str> = listed.chain(status.pod_ip.as_deref()).filter(|ip| !ip.is_empty()).collect();
    // An address that is none is passed on, to be rejected by name.
    let is_wanted = |ip: &&&str| parse_ip(ip).map_or(family == IpFamily::V4, |ip| IpFamily::of(ip) == family);
    all.iter().find(is_wanted).map(|ip| (*ip).to_owned())
}

/// All addresses of a pod.
pub fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    IpFamily::ALL.into_iter().filter_map(|family| address(pod, family)).filter_map(|ip| parse_ip(&ip).ok())
}

/// Ready as its condition says. A Pod written by hand seldom has conditions: with an address and without any
/// condition it counts as ready.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref()).filter(|c| !c.is_empty());
    conditions.is_none_or(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

fn endpoint_of(pod: &Pod, addr: String, publish: bool, health: &Health) -> Endpoint {
    let serving = is_ready(pod) && health.is_well(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let conditions = EndpointConditions {
        ready: Some(publish || (serving && !terminating)),
        serving: Some(serving),
        terminating: Some(terminating),
    };
    Endpoint {
        addresses: vec![addr],
        conditions: Some(conditions),
        node_name: node_name(pod).map(str::to_owned),
        target_ref: Some(reference(pod)),
        ..Endpoint::default()
    }
}

/// The reference of an endpoint to its Pod, as Kubernetes' controllers write it.
pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        ..ObjectReference::default()
    }
}

/// Its name below that of the Service which its subdomain names (SEM-325). Their namespaces are the same.
fn hostname<'p>(service: &Service, pod: &'p Pod) -> Option<&'p str> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_deref().filter(|name| !name.is_empty())?;
    (spec.subdomain == service.metadata.name).then_some(hostname)
}

/// The node a pod runs on.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// `trafficDistribution` becomes hints (SEM-054).
fn hints(distribution: Option<&str>, pod: &Pod, zones: &Zones<'_>) -> Option<EndpointHints> {
    let node = node_name(pod)?;
    let zone = zones.get(node).map(|z| vec![ForZone { name: (*z).to_owned() }]);
    match distribution? {
        "PreferClose" | "PreferSameZone" => Some(EndpointHints { for_zones: Some(zone?), for_nodes: None }),
        "PreferSameNode" => {
            let node = ForNode { name: node.to_owned() };
            Some(EndpointHints { for_zones: zone, for_nodes: Some(vec![node]) })
        }
        _ => None,
    }
}

/// Name, protocol and number of a service port at a pod; nothing if the pod has no port of the name asked for.
fn resolve_port(port: &ServicePort, pod: &Pod) -> Option<(String, String, i32)> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => container_port(pod, name, protocol)?,
    };
    Some((port.name.clone().unwrap_or_default(), protocol.to_owned(), number))
}

fn container_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    // Init containers that run on are sidecars.
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let mut named = ports.filter(|p| p.name.as_deref() == Some(name));
    named.find(|p| p.protocol.as_deref().unwrap_or("TCP") == protocol).map(|p| p.container_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones<'static> {
        Zones::from([("n1", "z1")])
    }

    fn endpoints(service: &str, pods: &[&str]) -> Vec<String> {
        let service: Service = serde_yaml_ng::from_str(service).unwrap();
        let pods: Vec<Pod> = pods.iter().map(|p| serde_yaml_ng::from_str(p).unwrap()).collect();
        let slices = slices_of_pods(&service, &pods.iter().collect::<Vec<_>>(), &zones(), &Health::default());
        let mut lines = Vec::new();
        for slice in &slices {
            let ports = slice.ports.iter().flatten().map(|p| p.port.unwrap_or(0).to_string());
            let ports = ports.collect::<Vec<_>>().join(",");
            for e in slice.endpoints.iter().flatten() {
                let c = e.conditions.clone().unwrap_or_default();
                let set = [(c.ready, "r"), (c.serving, "s"), (c.terminating, "t")];
                let set: String = set.iter().filter(|(on, _)| *on == Some(true)).map(|(_, l)| *l).collect();
                lines.push(format!("{} {ports} {set}", e.addresses[0]));
            }
        }
        lines
    }

    const WEB: &str =
        "{metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}}";

    fn pod(status: &str, port: u16) -> String {
        format!(
            "{{metadata: {{name: p, labels: {{app: web, x: y}}}}, spec: {{nodeName: n1, containers: [
            {{name: c, ports: [{{name: http, containerPort: {port}}}]}}]}}, status: {{{status}}}}}"
        )
    }

    #[test]
    fn sem_049_sem_050_pods_become_endpoints_as_their_conditions_say() {
        for (status, line) in [
            ("podIP: 10.0.0.1", "10.0.0.1 8080 rs"),
            ("podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]", "10.0.0.1 8080 rs"),
            ("podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]", "10.0.0.1 8080 "),
            ("podIP: 10.0.0.1, phase: Failed", ""),
            ("podIP: 10.0.0.1, phase: Succeeded", ""),
            ("phase: Pending", ""),
        ] {
            assert_eq!(endpoints(WEB, &[&pod(status, 8080)]).join("|"), line, "{status}");
        }
    }

    #[test]
    fn sem_049_a_terminating_pod_serves_and_is_not_ready() {
        let pod = pod("podIP: 10.0.0.1", 8080)
            .replace("name: p,", "name: p, deletionTimestamp: 2026-01-01T00:00:00Z,");
        assert_eq!(endpoints(WEB, &[&pod]), ["10.0.0.1 8080 st"]);
        let publish = WEB.replace("selector", "publishNotReadyAddresses: true, selector");
        assert_eq!(endpoints(&publish, &[&pod]), ["10.0.0.1 8080 rst"]);
    }

    #[test]
    fn sem_054_traffic_distribution_becomes_hints() {
        let hints = |distribution: &str, node: &str| {
            let service = WEB.replace("selector", &format!("trafficDistribution: {distribution}, selector"));
            let service: Service = serde_yaml_ng::from_str(&service).unwrap();
            let pod = pod("podIP: 10.0.0.1", 8080).replace("n1", node);
            let pod: Pod = serde_yaml_ng::from_str(&pod).unwrap();
            let slices = slices_of_pods(&service, &[&pod], &zones(), &Health::default());
            let hints = slices[0].endpoints.as_ref().unwrap()[0].hints.clone().unwrap_or_default();
            let zones: Vec<String> = hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect();
            let nodes: Vec<String> = hints.for_nodes.into_iter().flatten().map(|node| node.name).collect();
            format!("zones [{}], nodes [{}]", zones.join(" "), nodes.join(" "))
        };
        for close in ["PreferClose", "PreferSameZone"] {
            assert_eq!(hints(close, "n1"), "zones [z1], nodes []");
            assert_eq!(hints(close, "nowhere"), "zones [], nodes []");
        }
        assert_eq!(hints("PreferSameNode", "n1"), "zones [z1], nodes [n1]");
        assert_eq!(hints("PreferSameNode", "nowhere"), "zones [], nodes [nowhere]");
        assert_eq!(hints("null", "n1"), "zones [], nodes []");
    }

    #[test]
    fn named_ports_are_resolved_at_each_pod_and_both_families_count() {
        let (a, b) = (
            pod("podIP: 10.0.0.1", 8080),
            pod("podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]", 9090),
        );
        assert_eq!(endpoints(WEB, &[&a, &b]), ["10.0.0.1 8080 rs", "10.0.0.2 9090 rs", "fd00::2 9090 rs"]);
        let unknown = WEB.replace("targetPort: http", "targetPort: other");
        assert_eq!(endpoints(&unknown, &[&a]), ["10.0.0.1  rs"]);
    }

    #[test]
    fn other_labels_and_namespaces_do_not_match_and_no_selector_matches_nothing() {
        let here = pod("podIP: 10.0.0.1", 8080);
        assert!(endpoints(WEB, &[&here.replace("name: p", "name: p, namespace: other")]).is_empty());
        assert!(endpoints(WEB, &[&here.replace("app: web", "app: db")]).is_empty());
        assert!(endpoints(&WEB.replace("selector: {app: web}, ", ""), &[&here]).is_empty());
    }
}
