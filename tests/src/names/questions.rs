//! Interesting names of a world, and some that do not exist.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::objects::Manifests;

pub const TYPES: [&str; 11] = ["A", "AAAA", "SRV", "PTR", "TXT", "CNAME", "MX", "HTTPS", "NS", "SOA", "ANY"];

/// Names to query in every world, existing or not.
const ALWAYS: [&str; 19] = [
    "cluster.local",
    "svc.cluster.local",
    "pod.cluster.local",
    "dns-version.cluster.local",
    "x.dns-version.cluster.local",
    "dns.cluster.local",
    "ns.dns.cluster.local",
    "in-addr.arpa",
    "ip6.arpa",
    "nothing.cluster.local",
    "nowhere.svc.cluster.local",
    "nobody.nowhere.svc.cluster.local",
    "10-1-0-1.a.pod.cluster.local",
    "www.example.com.a.svc.cluster.local",
    "www.example.com.svc.cluster.local",
    "www.example.com.cluster.local",
    "www.example.com",
    "9.9.9.9.in-addr.arpa",
    "9.9.in-addr.arpa",
];

pub fn names(manifests: &Manifests) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ALWAYS.map(str::to_owned).into();
    for document in &manifests.documents {
        let meta = &document["metadata"];
        let (name, namespace) = (text(&meta["name"]), text(&meta["namespace"]));
        match text(&document["kind"]).as_str() {
            "Namespace" => {
                names.extend([format!("{name}.svc.cluster.local"), format!("{name}.pod.cluster.local")])
            }
            "Service" => {
                let service = format!("{name}.{namespace}.svc.cluster.local");
                let spec = &document["spec"];
                add_ports(&mut names, list(&spec["ports"]), &service);
                names.extend(list(&spec["clusterIPs"]).iter().filter_map(|ip| reverse(&text(ip))));
                names.extend(["nobody", "a.b.c"].map(|host| format!("{host}.{service}")));
                names.insert(mixed_case(&service));
                names.insert(service);
            }
            "EndpointSlice" => {
                let service = text(&meta["labels"]["kubernetes.io/service-name"]);
                let service = format!("{service}.{namespace}.svc.cluster.local");
                add_ports(&mut names, list(&document["ports"]), &service);
                for endpoint in list(&document["endpoints"]) {
                    let address = text(&endpoint["addresses"][0]);
                    names.extend(reverse(&address));
                    names.insert(format!("{}.{service}", address.replace(['.', ':'], "-")));
                    if let Some(hostname) = endpoint["hostname"].as_str() {
                        names.insert(format!("{hostname}.{service}"));
                    }
                }
            }
            _ => {}
        }
    }
    names
}

fn add_ports(names: &mut BTreeSet<String>, ports: &[Value], service: &str) {
    for port in ports {
        let (name, protocol) =
            (text(&port["name"]), port["protocol"].as_str().unwrap_or("TCP").to_lowercase());
        if !name.is_empty() {
            names.extend([format!("_{name}._{protocol}.{service}"), format!("{name}.{protocol}.{service}")]);
        }
        names.insert(format!("_nothing._{protocol}.{service}"));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn mixed_case(name: &str) -> String {
    let flip = |(i, c): (usize, char)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c };
    name.chars().enumerate().map(flip).collect()
}

fn reverse(address: &str) -> Option<String> {
    Some(match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(addr) => {
            let [a, b, c, d] = addr.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(addr) => {
            let octets = addr.octets();
            let nibbles = octets.iter().rev().flat_map(|octet| [octet & 0xf, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    })
}
