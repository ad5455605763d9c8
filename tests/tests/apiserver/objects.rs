//! The objects of the cases as JSON, and fields read from them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use svc_tests::topology::{Addrs, Node};

/// The port of every Service here.
pub const PORT: u16 = 80;
/// The Pods' ServiceAccount.
const SERVERS: &str = "servers";

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

/// A namespace that accepts Pods at once: they have a ServiceAccount of their own, because a controller makes the
/// default one later.
pub fn home(name: &str) -> [Value; 2] {
    [namespace(name), account(name, SERVERS)]
}

/// Gives an account a role.
pub fn binding(account: &str, role: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

pub fn node(name: &str, node: &Node) -> Value {
    let (own, pods) = (node.host.addrs, node.pod_cidrs());
    let (pods4, pods6) = (format!("{}/24", pods.v4), format!("{}/64", pods.v6));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": pods4, "podCIDRs": [pods4, pods6]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": own.v4},
                {"type": "InternalIP", "address": own.v6},
            ],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// A Pod with this namespace, name and node, bound and running.
pub fn pod(
    [namespace, name, node]: [&str; 3],
    labels: &Value,
    addrs: Addrs,
    port: u16,
    is_ready: bool,
) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "nodeName": node,
            "serviceAccountName": SERVERS,
            "automountServiceAccountToken": false,
            // There is no kubelet to end it.
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "server", "image": "none", "ports": [{"containerPort": port}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": addrs.v4,
            "podIPs": [{"ip": addrs.v4}, {"ip": addrs.v6}],
            "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
        },
    })
}

/// A dual-stack Service; `more` is merged into its spec.
pub fn service([namespace, name]: [&str; 2], target: u16, more: &Value) -> Value {
    let mut spec = json!({
        "ipFamilyPolicy": "RequireDualStack",
        "ports": [{"port": PORT, "targetPort": target}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

/// A slice of a Service with one endpoint, made by hand.
pub fn slice(name: &str, service: &str, address: IpAddr, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "ports": [{"name": "", "port": port}],
        "endpoints": [{"addresses": [address]}],
    })
}

/// The addresses of a dual-stack Service, IPv4 and IPv6.
pub fn cluster_ips(service: &Value) -> Result<[SocketAddr; 2]> {
    let [v4, v6] = [true, false].map(|is_ipv4| cluster_ip(service, is_ipv4));
    Ok([v4?, v6?])
}

/// The address of a Service in one family.
pub fn cluster_ip(service: &Value, is_ipv4: bool) -> Result<SocketAddr> {
    let addresses = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    let mut parsed = addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
    let found = parsed.find(|address| address.is_ipv4() == is_ipv4);
    Ok((found.with_context(|| format!("no such ClusterIP: {service}"))?, PORT).into())
}
