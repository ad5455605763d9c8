//! Random worlds from a seed: Services of every kind, endpoints in every state.

use fastrand::Rng;
use serde_json::{Value, json};

use super::objects::Manifests;

const NAMESPACES: [&str; 3] = ["a", "b", "empty"];
const SERVICES: usize = 16;
const PORTS: [(&str, &str, u16); 4] =
    [("http", "TCP", 80), ("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9100)];
const HOSTS: [&str; 4] = ["web-0", "web-1", "web-2", "twin"];

pub fn manifests(seed: u64) -> Manifests {
    let mut rng = Rng::with_seed(seed);
    let mut documents: Vec<Value> = NAMESPACES
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .into();
    documents.push(known());
    for n in 0..SERVICES {
        let namespace = NAMESPACES[rng.usize(..2)];
        let name = format!("s{n}");
        let spec = spec(n, &mut rng);
        documents.push(json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec}));
        for k in 0..rng.usize(..3) {
            documents.push(slice(&name, namespace, k, spec["clusterIP"] == "None", &mut rng));
        }
    }
    let text = documents.iter().map(|document| format!("{document}\n---\n")).collect();
    Manifests { text, documents }
}

/// A name that exists as soon as a server knows all objects.
pub const KNOWN: &str = "known.a.svc.cluster.local";

fn known() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "known", "namespace": "a"},
        "spec": {"clusterIP": "10.96.255.1", "clusterIPs": ["10.96.255.1"], "ports": [{"port": 1, "protocol": "TCP"}]}})
}

fn spec(n: usize, rng: &mut Rng) -> Value {
    let ports: Vec<Value> = PORTS[..rng.usize(..=PORTS.len())]
        .iter()
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}))
        .collect();
    let (v4, v6) = (format!("10.96.0.{}", n + 1), format!("fd00:96::{:x}", n + 1));
    match rng.usize(..6) {
        0 => json!({"clusterIP": v4, "clusterIPs": [v4], "ports": ports}),
        1 => json!({"clusterIP": v6, "clusterIPs": [v6], "ports": ports}),
        2 => json!({"clusterIP": v4, "clusterIPs": [v4, v6], "ports": ports}),
        3 | 4 => json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}),
        _ => {
            let target = match rng.usize(..4) {
                0 => "www.example.com".to_owned(),
                1 => "nowhere.a.svc.cluster.local".to_owned(),
                _ => format!("s{}.{}.svc.cluster.local", rng.usize(..SERVICES), NAMESPACES[rng.usize(..2)]),
            };
            json!({"type": "ExternalName", "externalName": target})
        }
    }
}

fn slice(service: &str, namespace: &str, k: usize, is_headless: bool, rng: &mut Rng) -> Value {
    let is_v6 = rng.bool();
    let endpoint = |rng: &mut Rng| {
        let host = rng.u8(1..40);
        let address = if is_v6 { format!("fd00:1::{host:x}") } else { format!("10.1.0.{host}") };
        let mut endpoint = json!({"addresses": [address]});
        match rng.usize(..4) {
            0 => {}
            1 => endpoint["conditions"] = json!({"ready": false}),
            _ => endpoint["conditions"] = json!({"ready": true}),
        }
        if rng.bool() {
            endpoint["hostname"] = HOSTS[rng.usize(..HOSTS.len())].into();
        }
        endpoint
    };
    let endpoints: Vec<Value> = (0..rng.usize(..6)).map(|_| endpoint(rng)).collect();
    let ports: Vec<Value> = PORTS[..rng.usize(..=PORTS.len())]
        .iter()
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port + 8000}))
        .collect();
    let mut labels = json!({"kubernetes.io/service-name": service});
    if is_headless {
        labels["service.kubernetes.io/headless"] = "".into();
    }
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-{k}"), "namespace": namespace, "labels": labels},
        "addressType": if is_v6 { "IPv6" } else { "IPv4" }, "endpoints": endpoints, "ports": ports})
}
