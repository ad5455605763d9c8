//! A world as objects of the API server.

use serde_json::{Value, json};

use super::world::{Endpoint, Proto, Service, Slice, THIS_NODE, World};

const NAMESPACE: &str = "default";

const fn label(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "TCP",
        Proto::Udp => "UDP",
        Proto::Sctp => "SCTP",
        Proto::Icmp => "ICMP",
    }
}

/// The Node of this node, with its first address of each family.
pub fn node(world: &World, addresses: &[std::net::IpAddr]) -> Value {
    let addresses: Vec<Value> =
        addresses.iter().map(|a| json!({"type": "InternalIP", "address": a})).collect();
    let labels = world.zone.map(|zone| json!({"topology.kubernetes.io/zone": zone}));
    json!({
        "metadata": {"name": THIS_NODE, "labels": labels},
        "status": {"addresses": addresses},
    })
}

pub fn service(s: &Service) -> Value {
    let families: Vec<&str> =
        s.cluster_ips.iter().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    let ports: Vec<Value> = s
        .ports
        .iter()
        .map(|p| json!({"name": p.name, "protocol": label(p.proto), "port": p.port, "nodePort": p.node_port}))
        .collect();
    let ingress: Vec<Value> = s.ingress.iter().map(|i| json!({"ip": i.ip, "ipMode": i.mode})).collect();
    let ranges: Vec<String> = s.source_ranges.iter().map(|(addr, len)| format!("{addr}/{len}")).collect();
    let policy = |is_local| if is_local { "Local" } else { "Cluster" };
    let has_external = s.kind != "ClusterIP" || !s.external_ips.is_empty();
    json!({
        "metadata": {"namespace": NAMESPACE, "name": s.name},
        "spec": {
            "type": s.kind,
            "clusterIP": s.cluster_ips.first(),
            "clusterIPs": s.cluster_ips,
            "ipFamilies": families,
            "externalIPs": s.external_ips,
            "loadBalancerSourceRanges": ranges,
            "internalTrafficPolicy": policy(s.internal_local),
            "externalTrafficPolicy": has_external.then(|| policy(s.external_local)),
            "sessionAffinity": if s.affinity.is_some() { "ClientIP" } else { "None" },
            "sessionAffinityConfig": s.affinity.map(|t| json!({"clientIP": {"timeoutSeconds": t}})),
            "ports": ports,
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    })
}

pub fn slice(s: &Slice) -> Value {
    let ports: Vec<Value> = s
        .ports
        .iter()
        .map(|(name, proto, port)| json!({"name": name, "protocol": label(*proto), "port": port}))
        .collect();
    json!({
        "metadata": {
            "namespace": NAMESPACE,
            "name": s.name,
            "labels": {"kubernetes.io/service-name": s.service},
        },
        "addressType": if s.is_v4 { "IPv4" } else { "IPv6" },
        "ports": ports,
        "endpoints": s.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn endpoint(e: &Endpoint) -> Value {
    let named = |names: &[&str]| -> Vec<Value> { names.iter().map(|n| json!({"name": n})).collect() };
    json!({
        "addresses": [e.addr],
        "conditions": {"ready": e.ready, "serving": e.serving, "terminating": e.terminating},
        "nodeName": e.node,
        "hints": {"forZones": named(&e.zone_hints), "forNodes": named(&e.node_hints)},
    })
}
