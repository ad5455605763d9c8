//! The cluster's DNS: CoreDNS if its image is present, or svc's own server on every node.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::addresses;
use super::args::{Dns, Proxy, Up};
use super::settings::Settings;
use super::{images, node};

const MANIFESTS: &str = include_str!("../../cluster/dns.yaml");
/// Placeholder in the manifests for the image's name.
const IMAGE: &str = "svc.local/coredns";

pub(super) const DEPLOYMENT: &str = "deployment/coredns";

/// `None` if CoreDNS shall serve and has no image.
pub(super) fn manifests(settings: &Settings, options: &Up) -> Result<Option<String>> {
    if options.dns == Dns::Svc {
        ensure!(options.proxy == Proxy::Svc, "--dns svc needs --proxy svc");
        return Ok(Some(of_svc(options.nodes)));
    }
    let image = images::find(&images::archives(&settings.images)?, "/coredns:")?;
    Ok(image.map(|image| MANIFESTS.replace(IMAGE, &image)))
}

/// The Service of docs/dns.md: each node's own daemon is an endpoint, and serves the pods of its node.
fn of_svc(nodes: u8) -> String {
    let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]);
    let cluster_ips = [addresses::DNS.v4.to_string(), addresses::DNS.v6.to_string()];
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "clusterIP": cluster_ips[0],
            "clusterIPs": cluster_ips,
            "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
            "internalTrafficPolicy": "Local",
            "ports": ports,
        },
    });
    let slice = |family: &str, address: fn(u8) -> String| {
        let endpoint = |index| json!({"addresses": [address(index)], "nodeName": node::name(index), "conditions": {"ready": true}});
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("kube-dns-{}", family.to_lowercase()),
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": family,
            "ports": ports,
            "endpoints": (1..=nodes).map(endpoint).collect::<Vec<Value>>(),
        })
    };
    let v4 = slice("IPv4", |index| addresses::node(index).v4.to_string());
    let v6 = slice("IPv6", |index| addresses::node(index).v6.to_string());
    [service, v4, v6].map(|object| object.to_string()).join("\n---\n")
}
