//! Services whose endpoints are svc's own name servers: each node answers DNS at the endpoints that are its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;

use super::world::World;
use crate::model::convert::ANNOTATION_DNS;
use crate::model::parse::{parse_ip, parse_port};

/// The reader of the addresses, and the node that they are of.
#[derive(Clone, Debug)]
pub struct NameServers {
    pub node: Arc<str>,
    pub addresses: watch::Sender<BTreeSet<SocketAddr>>,
}

impl NameServers {
    pub fn update(&self, world: &World) {
        let now = addresses(world, &self.node);
        self.addresses.send_if_modified(|known| {
            let has_changed = *known != now;
            *known = now;
            has_changed
        });
    }
}

/// The endpoints at this node of all Services with the annotation. Of an endpoint without a node, the address decides.
fn addresses(world: &World, node: &str) -> BTreeSet<SocketAddr> {
    let own = world.node(node).map(addresses_of).unwrap_or_default();
    let asking = world.services().filter(|service| is_name_server(&service.metadata));
    let slices = asking.flat_map(|service| world.slices_of(&service.metadata));
    slices.flat_map(|slice| listeners(slice, node, &own)).collect()
}

fn is_name_server(meta: &ObjectMeta) -> bool {
    meta.annotations.as_ref().and_then(|all| all.get(ANNOTATION_DNS)).is_some_and(|word| word == "true")
}

fn addresses_of(node: &Node) -> BTreeSet<IpAddr> {
    let written = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    written.filter_map(|address| parse_ip(&address.address).ok()).collect()
}

/// Endpoints that are not ready count: a name server is not ready before it listens.
fn listeners(slice: &EndpointSlice, node: &str, own: &BTreeSet<IpAddr>) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten().filter_map(|port| parse_port(port.port?).ok());
    let ports: Vec<u16> = ports.map(|port| port.get()).collect();
    let endpoints = slice.endpoints.iter().flatten().flat_map(|endpoint| {
        let ips = endpoint.addresses.iter().filter_map(|address| parse_ip(address).ok());
        ips.filter(move |ip| match endpoint.node_name.as_deref() {
            Some(name) => name == node,
            None => own.contains(ip),
        })
    });
    endpoints.flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifests::document::parse_contents;

    fn asked_for(service: &str, endpoints: &str) -> Vec<String> {
        let slice = "kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, addressType: IPv4";
        let labels = "labels: {kubernetes.io/service-name: kube-dns}";
        let text = format!(
            "{{kind: Node, apiVersion: v1, metadata: {{name: node1}}, status: {{addresses: [{{type: InternalIP, address: 192.0.2.1}}]}}}}
---
{{kind: Service, apiVersion: v1, metadata: {{name: kube-dns, {service}}}, spec: {{}}}}
---
{{{slice}, metadata: {{name: s, {labels}}}, ports: [{{name: u, port: 53, protocol: UDP}}, {{name: t, port: 53}}], endpoints: [{endpoints}]}}
"
        );
        let (contents, errors) = parse_contents(&text);
        assert_eq!(errors, []);
        let objects: Vec<_> = contents.objects.iter().map(|found| &found.object).collect();
        let (reader, addresses) = (World::of(&objects), watch::Sender::default());
        let name_servers = NameServers { node: "node1".into(), addresses };
        name_servers.update(&reader);
        name_servers.addresses.borrow().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_answers_at_its_own_endpoints_of_services_that_ask_for_it() {
        let asks = "annotations: {svc/dns: 'true'}";
        let both = "{addresses: [192.0.2.1], nodeName: node1}, {addresses: [192.0.2.2], nodeName: node2}";
        assert_eq!(asked_for(asks, both), ["192.0.2.1:53"]);
        assert_eq!(asked_for(asks, "{addresses: [192.0.2.1]}, {addresses: [192.0.2.9]}"), ["192.0.2.1:53"]);
        let unready = "{addresses: [192.0.2.7], nodeName: node1, conditions: {ready: false}}";
        assert_eq!(asked_for(asks, unready), ["192.0.2.7:53"]);
        for other in ["annotations: {svc/dns: 'false'}", "annotations: {}"] {
            assert_eq!(asked_for(other, both), Vec::<String>::new(), "{other}");
        }
    }
}
