//! Refuses Services that an API server refuses although their types are right. An error names the field. The model
//! (`convert`) checks the parts that only this node reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::complaint::{Complaint, Kind};
use crate::model::convert::{ANNOTATION_DNS, NO_ALLOCATOR, convert_service};
use crate::model::name::{IpFamily, ServiceName};
use crate::model::parse::{parse_dns_name, parse_ip, parse_label};
use crate::model::service::NODE_PORTS;

/// A field and its fault.
pub type Fault = (String, String);

/// All faults of a single Service. `ranges` are those that ClusterIPs must be in; none: anywhere.
pub fn faults_of(service: &Service, ranges: &[IpNet]) -> Vec<Fault> {
    let mut faults = Faults::default();
    let meta = &service.metadata;
    faults.check_name("metadata.name", meta.name.as_deref().unwrap_or_default());
    faults.check_name("metadata.namespace", meta.namespace.as_deref().unwrap_or_default());
    faults.check_dns(meta);
    match &service.spec {
        None => faults.add("spec", "missing"),
        Some(spec) => {
            faults.check_ports(spec);
            faults.check_addresses(spec, ranges);
            faults.check_words(spec);
        }
    }
    // A Service without an address or a node port gets one.
    let refused = convert_service(service).refused.into_iter().filter(|c| c.reason != NO_ALLOCATOR);
    let known: BTreeSet<String> = faults.0.iter().map(|(field, _)| field.clone()).collect();
    let more = refused.filter(|c| !known.contains(&c.field)).map(|c| (c.field, c.reason));
    faults.0.extend(more);
    faults.0
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push((field.into(), reason.into()));
    }

    fn check_name(&mut self, field: &str, name: &str) {
        if parse_label(name).is_err() || name.bytes().any(|octet| octet.is_ascii_uppercase()) {
            self.add(field, format!("{name:?} is not a DNS label in lower case (RFC 1123)"));
        }
    }

    fn check_dns(&mut self, meta: &ObjectMeta) {
        let word = meta.annotations.as_ref().and_then(|all| all.get(ANNOTATION_DNS));
        if let Some(word) = word.filter(|word| !["true", "false"].contains(&word.as_str())) {
            let field = format!("metadata.annotations[{ANNOTATION_DNS}]");
            self.add(field, format!("{word:?} is neither true nor false"));
        }
    }

    fn check_ports(&mut self, spec: &ServiceSpec) {
        let ports = spec.ports.as_deref().unwrap_or_default();
        let is_headless = spec.cluster_ip.as_deref() == Some("None");
        let is_alias = spec.type_.as_deref() == Some("ExternalName");
        if ports.is_empty() && !is_headless && !is_alias {
            self.add("spec.ports", "missing");
        }
        let has_node_ports = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
        let (mut names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (i, port) in ports.iter().enumerate() {
            let (name, protocol) = (port.name.as_deref().unwrap_or_default(), protocol(port));
            if name.is_empty() {
                if ports.len() > 1 {
                    self.add(
                        format!("spec.ports[{i}].name"),
                        "missing: a Service with several ports names each",
                    );
                }
            } else if !names.insert(name) {
                self.add(format!("spec.ports[{i}].name"), format!("a second port with the name {name:?}"));
            } else {
                self.check_name(&format!("spec.ports[{i}].name"), name);
            }
            if !numbers.insert((port.port, protocol)) {
                let reason = format!("a second port {}/{protocol}", port.port);
                self.add(format!("spec.ports[{i}].port"), reason);
            }
            self.check_target(i, port);
            if let Some(number) = port.node_port.filter(|number| *number != 0) {
                let field = format!("spec.ports[{i}].nodePort");
                let is_in_range = u16::try_from(number).is_ok_and(|n| NODE_PORTS.contains(&n));
                if !has_node_ports {
                    self.add(field, "only with the type NodePort or LoadBalancer");
                } else if !is_in_range {
                    let (first, last) = (NODE_PORTS.start(), NODE_PORTS.end());
                    self.add(field, format!("{number} is not between {first} and {last}"));
                } else if !node_ports.insert((number, protocol)) {
                    self.add(field, format!("a second node port {number}/{protocol}"));
                }
            }
        }
    }

    fn check_target(&mut self, i: usize, port: &ServicePort) {
        let is_good = match &port.target_port {
            None => true,
            // Zero stands for a missing value.
            Some(IntOrString::Int(number)) => (0..=65_535).contains(number),
            Some(IntOrString::String(name)) => {
                let is_inner =
                    |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
                (1..=15).contains(&name.len())
                    && name.bytes().all(is_inner)
                    && name.bytes().any(|octet| octet.is_ascii_lowercase())
                    && parse_label(name).is_ok()
            }
        };
        if !is_good {
            let reason =
                "neither a port number nor the name of a container's port (at most 15 of a-z, 0-9 and -)";
            self.add(format!("spec.ports[{i}].targetPort"), reason);
        }
    }

    fn check_addresses(&mut self, spec: &ServiceSpec, ranges: &[IpNet]) {
        let all = spec.cluster_ips.as_deref().unwrap_or_default();
        if let (Some(one), Some(first)) = (&spec.cluster_ip, all.first())
            && one != first
            && !one.is_empty()
        {
            self.add("spec.clusterIPs[0]", format!("{first:?} is not spec.clusterIP ({one:?})"));
        }
        let listed = all.iter().enumerate().map(|(i, ip)| (format!("spec.clusterIPs[{i}]"), ip));
        let single = spec.cluster_ip.iter().filter(|_| all.is_empty());
        let single = single.map(|ip| ("spec.clusterIP".to_owned(), ip));
        for (field, text) in listed.chain(single) {
            let Ok(ip) = parse_ip(text) else { continue };
            let mut of_family =
                ranges.iter().filter(|r| IpFamily::of(r.addr()) == IpFamily::of(ip)).peekable();
            if of_family.peek().is_some() && !of_family.any(|range| range.contains(&ip)) {
                self.add(field, format!("{ip} is not in --service-cidr"));
            }
        }
        for (i, family) in spec.ip_families.iter().flatten().enumerate() {
            if IpFamily::from_label(family).is_none() {
                self.add(format!("spec.ipFamilies[{i}]"), format!("{family:?} is neither IPv4 nor IPv6"));
            }
        }
    }

    fn check_words(&mut self, spec: &ServiceSpec) {
        let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
        let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        for (field, word, words) in [
            ("spec.ipFamilyPolicy", &spec.ip_family_policy, policies),
            ("spec.trafficDistribution", &spec.traffic_distribution, distributions),
        ] {
            if let Some(word) = word.as_deref().filter(|word| !words.contains(word)) {
                self.add(field, format!("{word:?} is none of {}", words.join(", ")));
            }
        }
        if spec.type_.as_deref() == Some("ExternalName") {
            let name = spec.external_name.as_deref().unwrap_or_default();
            match parse_dns_name(name) {
                Err(reason) => self.add("spec.externalName", reason),
                Ok(name) if name.parse::<IpAddr>().is_ok() => {
                    self.add("spec.externalName", format!("{name:?} is an address: an alias needs a name"));
                }
                Ok(_) => {}
            }
        }
    }
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP")
}

/// An address or node port that two Services want. The complaint is about the second by name.
pub fn conflicts<'s>(services: impl Iterator<Item = &'s Service>) -> Vec<Complaint> {
    let (mut addresses, mut node_ports) = (BTreeMap::new(), BTreeMap::new());
    let mut complaints = Vec::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let name = ServiceName::new(&text(&service.metadata.namespace), &text(&service.metadata.name));
        let mut complain = |field: &str, reason: String| {
            complaints.push(Complaint::of_service(Kind::Refused, &name, field, reason));
        };
        let ips: BTreeSet<IpAddr> = spec
            .cluster_ips
            .iter()
            .flatten()
            .chain(&spec.cluster_ip)
            .filter_map(|ip| parse_ip(ip).ok())
            .collect();
        for ip in ips {
            if let Some(owner) = addresses.get(&ip) {
                complain("spec.clusterIP", format!("{ip} is the address of Service {owner}"));
            } else {
                addresses.insert(ip, name.clone());
            }
        }
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            let Some(number) = port.node_port.filter(|number| *number != 0) else { continue };
            let key = (number, protocol(port).to_owned());
            match node_ports.get(&key) {
                Some(owner) if *owner != name => {
                    let reason = format!("{number}/{} is the node port of Service {owner}", key.1);
                    complain(&format!("spec.ports[{i}].nodePort"), reason);
                }
                _ => drop(node_ports.insert(key, name.clone())),
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(meta_and_spec: &str) -> Vec<String> {
        let service: Service = serde_yaml_ng::from_str(&format!("{{{meta_and_spec}}}")).unwrap();
        let ranges = ["10.96.0.0/16".parse().unwrap()];
        faults_of(&service, &ranges).into_iter().map(|(field, reason)| format!("{field}: {reason}")).collect()
    }

    fn spec(spec: &str) -> Vec<String> {
        faults(&format!("metadata: {{name: web, namespace: shop}}, spec: {{{spec}}}"))
    }

    #[test]
    fn an_object_that_an_api_server_accepts_is_accepted() {
        for good in [
            "ports: [{port: 80}]",
            "ports: [{port: 53, name: t}, {port: 53, name: u, protocol: UDP}], clusterIP: 10.96.0.1",
            "type: NodePort, ports: [{port: 80, nodePort: 30080, targetPort: http}, {port: 81, name: b}]",
            "clusterIP: None",
            "type: ExternalName, externalName: db.example.",
            "ports: [{port: 80}], clusterIP: 'fd00::1', ipFamilies: [IPv6], trafficDistribution: PreferClose",
        ] {
            let expected: &[&str] = if good.contains("name: b") {
                &["spec.ports[0].name: missing: a Service with several ports names each"]
            } else {
                &[]
            };
            assert_eq!(spec(good), expected, "{good}");
        }
    }

    #[test]
    fn an_object_that_an_api_server_refuses_is_refused_by_its_field() {
        let second = "name: a}, {port: 80, name: b}]";
        for (bad, expected) in [
            ("type: ClusterIP", "spec.ports: missing"),
            (&*format!("ports: [{{port: 80, {second}"), "spec.ports[1].port: a second port 80/TCP"),
            (
                "ports: [{port: 80, name: a}, {port: 81, name: a}]",
                "spec.ports[1].name: a second port with the name \"a\"",
            ),
            (
                "ports: [{port: 80, name: A}]",
                "spec.ports[0].name: \"A\" is not a DNS label in lower case (RFC 1123)",
            ),
            ("ports: [{port: 0}]", "spec.ports[0].port: 0 is not a port number (1 to 65535)"),
            (
                "ports: [{port: 1, protocol: ICMP}]",
                "spec.ports[0].protocol: \"ICMP\" is not a protocol (TCP, UDP, SCTP)",
            ),
            (
                "ports: [{port: 1, targetPort: 70000}]",
                "spec.ports[0].targetPort: neither a port number nor the name of a container's port (at most 15 of a-z, 0-9 and -)",
            ),
            (
                "ports: [{port: 1, nodePort: 30000}]",
                "spec.ports[0].nodePort: only with the type NodePort or LoadBalancer",
            ),
            (
                "type: NodePort, ports: [{port: 1, nodePort: 80}]",
                "spec.ports[0].nodePort: 80 is not between 30000 and 32767",
            ),
            (
                "type: NodePort, ports: [{port: 1, nodePort: 30000, name: a}, {port: 2, nodePort: 30000, name: b}]",
                "spec.ports[1].nodePort: a second node port 30000/TCP",
            ),
            (
                "ports: [{port: 1}], clusterIP: 10.97.0.1",
                "spec.clusterIP: 10.97.0.1 is not in --service-cidr",
            ),
            (
                "ports: [{port: 1}], clusterIP: 10.96.0.1, clusterIPs: [10.96.0.2]",
                "spec.clusterIPs[0]: \"10.96.0.2\" is not spec.clusterIP (\"10.96.0.1\")",
            ),
            ("ports: [{port: 1}], clusterIP: web", "spec.clusterIP: \"web\" is not an IP address"),
            (
                "ports: [{port: 1}], ipFamilies: [IPv5]",
                "spec.ipFamilies[0]: \"IPv5\" is neither IPv4 nor IPv6",
            ),
            (
                "ports: [{port: 1}], ipFamilyPolicy: Both",
                "spec.ipFamilyPolicy: \"Both\" is none of SingleStack, PreferDualStack, RequireDualStack",
            ),
            ("type: ExternalName", "spec.externalName: \"\" is not a DNS name (RFC 1123)"),
            (
                "type: ExternalName, externalName: 192.0.2.1",
                "spec.externalName: \"192.0.2.1\" is an address: an alias needs a name",
            ),
        ] {
            assert_eq!(spec(bad), [expected], "{bad}");
        }
        let name = faults("metadata: {name: Web_1, namespace: shop}, spec: {ports: [{port: 1}]}");
        assert_eq!(name, ["metadata.name: \"Web_1\" is not a DNS label in lower case (RFC 1123)"]);
        assert_eq!(faults("metadata: {name: web, namespace: shop}"), ["spec: missing"]);
        let dns = faults(
            "metadata: {name: a, namespace: b, annotations: {svc/dns: 'on'}}, spec: {clusterIP: None}",
        );
        assert_eq!(dns, ["metadata.annotations[svc/dns]: \"on\" is neither true nor false"]);
    }

    #[test]
    fn two_services_with_one_address_or_node_port_are_named() {
        let service = |name: &str, ip: &str, node_port: u16| -> Service {
            serde_yaml_ng::from_str(&format!(
                "{{metadata: {{name: {name}, namespace: shop}}, spec: {{type: NodePort, clusterIP: {ip}, clusterIPs: [{ip}],
                   ports: [{{port: 80, nodePort: {node_port}}}]}}}}"
            ))
            .unwrap()
        };
        let all =
            [service("a", "10.96.0.1", 30_000), service("b", "10.96.0.1", 30_000), service("c", "None", 0)];
        let complaints: Vec<String> = conflicts(all.iter()).iter().map(ToString::to_string).collect();
        assert_eq!(
            complaints,
            [
                "Service shop/b: spec.clusterIP: 10.96.0.1 is the address of Service shop/a",
                "Service shop/b: spec.ports[0].nodePort: 30000/TCP is the node port of Service shop/a",
            ]
        );
        assert!(conflicts([&all[0], &all[2]].into_iter()).is_empty());
    }
}
