//! The objects as a real API server writes them, about as long and in its order of fields: `{"kind":...,"apiVersion":...,`
//! is left to the writer, because items of a list do not have it.

use std::fmt::Display;

use super::population::Population;

/// Our node.
pub const NODE: &str = "node-000";
/// Endpoints are spread over so many nodes.
const NODES: u32 = 100;
const NAMESPACES: u32 = 50;

/// A template with the line breaks of its file taken out, and places like `$NAME` to be filled.
struct Template(String);

impl Template {
    fn new(text: &str) -> Self {
        Self(text.lines().collect())
    }

    fn fill(&self, values: &[(&str, &dyn Display)]) -> String {
        let mut filled = String::with_capacity(self.0.len() + 256);
        let mut parts = self.0.split('$');
        filled.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            match values.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => filled.push_str(&value.to_string()),
                // It is filled later.
                None => filled.extend(["$", name]),
            }
            filled.push_str(rest);
        }
        filled
    }
}

/// Makes the objects of a population. Each begins with `"metadata"`, and its version is still the place `$VERSION`.
pub struct Objects {
    service: Template,
    slice: Template,
    endpoint: Template,
}

impl Objects {
    pub fn new() -> Self {
        Self {
            service: Template::new(include_str!("objects/service.json")),
            slice: Template::new(include_str!("objects/slice.json")),
            endpoint: Template::new(include_str!("objects/endpoint.json")),
        }
    }

    pub fn service(&self, population: &Population, nth: u32) -> String {
        let first = match population.is_refused(nth) {
            true => "10.96.0.256".to_owned(),
            false => Population::cluster_ip(nth).to_string(),
        };
        let (all, families, policy) = if population.is_dual() {
            let second = Population::cluster_ip6(nth);
            (format!("\"{first}\",\"{second}\""), "\"IPv4\",\"IPv6\"", "RequireDualStack")
        } else {
            (format!("\"{first}\""), "\"IPv4\"", "SingleStack")
        };
        let node_port = population.node_port(nth).map(|port| format!(",\"nodePort\":{port}"));
        let balanced = population.is_load_balanced();
        let kind = if balanced { "LoadBalancer" } else { "ClusterIP" };
        let external = match (balanced, &node_port) {
            (false, _) => String::new(),
            (true, made) => format!(
                ",\"externalTrafficPolicy\":\"Cluster\",\"allocateLoadBalancerNodePorts\":{}",
                made.is_some()
            ),
        };
        let address = Population::load_balancer(nth);
        let ingress = balanced.then(|| format!("\"ingress\":[{{\"ip\":\"{address}\",\"ipMode\":\"VIP\"}}]"));
        self.service.fill(&[
            ("NAME", &name(nth)),
            ("NAMESPACE", &namespace(nth)),
            ("UID", &uid(nth, 1)),
            ("NODEPORT", &node_port.unwrap_or_default()),
            ("CLUSTERIP", &first),
            ("ALLCLUSTERIPS", &all),
            ("TYPE", &kind),
            ("FAMILIES", &families),
            ("POLICY", &policy),
            ("EXTERNAL", &external),
            ("INGRESS", &ingress.unwrap_or_default()),
        ])
    }

    pub fn slice4(&self, population: &Population, nth: u32) -> String {
        self.slice(nth, 4, "IPv4", &population.endpoints4(nth))
    }

    pub fn slice6(&self, population: &Population, nth: u32) -> String {
        self.slice(nth, 6, "IPv6", &population.endpoints6(nth))
    }

    fn slice(&self, nth: u32, number: u32, family: &str, addresses: &[impl Display]) -> String {
        let endpoints: Vec<_> = (0..)
            .zip(addresses)
            .map(|(place, address)| {
                let pod = nth * addresses.len() as u32 + place;
                self.endpoint.fill(&[
                    ("ADDRESS", address),
                    ("NAMESPACE", &namespace(nth)),
                    ("POD", &format!("{}-6f7d8c9b54-{pod:05x}", name(nth))),
                    ("UID", &uid(pod, 9)),
                    ("NODE", &format!("node-{:03}", pod % NODES)),
                ])
            })
            .collect();
        self.slice.fill(&[
            ("NAME", &slice_name(nth, number)),
            ("SERVICE", &name(nth)),
            ("NAMESPACE", &namespace(nth)),
            ("UID", &uid(nth, number)),
            ("OWNER", &uid(nth, 1)),
            ("FAMILY", &family),
            ("ENDPOINTS", &endpoints.join(",")),
        ])
    }
}

pub fn node() -> String {
    Template::new(include_str!("objects/node.json")).fill(&[("NAME", &NODE)])
}

pub fn service_cidr() -> String {
    Template::new(include_str!("objects/service_cidr.json")).0
}

pub fn name(service: u32) -> String {
    format!("shop-{service:06}")
}

pub fn namespace(service: u32) -> String {
    format!("team-{:02}", service % NAMESPACES)
}

/// All namespaces there are.
pub fn namespaces() -> impl Iterator<Item = String> {
    (0..NAMESPACES).map(namespace)
}

/// 4 and 6 are the numbers of a Service's slices.
pub fn slice_name(service: u32, number: u32) -> String {
    format!("{}-x{number}", name(service))
}

fn uid(nth: u32, kind: u32) -> String {
    format!("{nth:08x}-3c1d-4e5f-8a9b-{kind:012x}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::args::{Column, Shape};
    use super::*;

    fn parse(object: &str) -> Value {
        assert!(object.contains("$VERSION"), "{object}");
        let object = object.replace("$VERSION", "7");
        assert!(!object.contains('$'), "{object}");
        serde_json::from_str(&format!("{{{object}")).unwrap()
    }

    #[test]
    fn every_object_is_json_with_nothing_left_to_fill_but_its_version() {
        let objects = Objects::new();
        for shape in [Shape::Plain, Shape::LoadBalancer, Shape::DualStack] {
            let population = Population::new(Column::new(10, shape));
            let service = parse(&objects.service(&population, 3));
            assert_eq!(service["spec"]["clusterIP"], "10.96.1.3");
            let ingress = &service["status"]["loadBalancer"]["ingress"][0]["ip"];
            assert_eq!(ingress == "198.18.0.3", shape == Shape::LoadBalancer);
            let slice = parse(&objects.slice4(&population, 3));
            assert_eq!(slice["endpoints"][3]["addresses"][0], "10.128.0.15");
            assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], service["metadata"]["uid"]);
        }
        let population = Population::new(Column::new(10, Shape::DualStack));
        assert_eq!(parse(&objects.slice6(&population, 1))["endpoints"][0]["addresses"][0], "fd00:128::4");
        assert_eq!(parse(&node())["metadata"]["name"], NODE);
        parse(&service_cidr());
    }
}
