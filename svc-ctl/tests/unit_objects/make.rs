//! Random objects: each field valid or invalid, and the fields that must be refused.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use proptest::sample::select;
use serde::Serialize;
use serde_json::{Value, json};

/// An object and the fields of it that must be refused.
#[derive(Clone)]
pub struct Made<T> {
    pub object: T,
    pub bad: BTreeSet<String>,
}

/// Printed as a manifest, to make a failing stream readable.
impl<T: Serialize> fmt::Debug for Made<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bad: {:?}", serde_json::to_string(&self.object).map_err(|_| fmt::Error)?, self.bad)
    }
}

/// A value, and whether it is valid.
type Choice<T> = (T, bool);

const V4: &[Choice<&str>] = &[
    ("10.97.0.1", true),
    ("010.097.00.02", true),
    ("::ffff:10.97.0.3", true),
    ("10.97.0", false),
    ("10.97.0.256", false),
    ("10.97.0.1 ", false),
    ("127.0.0.1", false),
    ("0.0.0.0", false),
    ("224.0.0.1", false),
    ("x", false),
];
const V6: &[Choice<&str>] = &[
    ("fd00:97::1", true),
    ("FD00:097::0002", true),
    ("fd00:97::1::2", false),
    ("fe80::1%eth0", false),
    ("::", false),
    ("::1", false),
    ("ff02::1", false),
];
/// Some are addresses of the Services that must not change.
const DIALLED: &[Choice<&str>] = &[
    ("203.0.113.1", true),
    ("2001:db8:97::1", true),
    ("10.96.0.1", true),
    ("192.0.2.9", true),
    ("fd00:96::2", true),
    ("2001:db8::g", false),
    ("1.2.3.4.5", false),
    ("-1.2.3.4", false),
    ("0x0a.0.0.1", false),
    ("127.0.0.2", false),
];
const RANGES: &[Choice<&str>] = &[
    (" 203.0.113.000/025 ", true),
    ("::/0", true),
    ("10.0.0.0", false),
    ("10.0.0.0/33", false),
    ("10.0.0.0/-1", false),
    ("::/129", false),
    ("/8", false),
    ("", false),
];
const PORTS: &[Choice<i32>] = &[
    (80, true),
    (53, true),
    (65_535, true),
    (0, false),
    (-1, false),
    (70_000, false),
    (i32::MIN, false),
    (i32::MAX, false),
];
const NODE_PORTS: &[Choice<Option<i32>>] = &[
    (None, true),
    (Some(0), true),
    (Some(31_000), true),
    (Some(31_001), true),
    (Some(-5), false),
    (Some(70_000), false),
];
const PROTOCOLS: &[Choice<Option<&str>>] = &[
    (None, true),
    (Some("TCP"), true),
    (Some("UDP"), true),
    (Some("tcp"), false),
    (Some(""), false),
    (Some("ICMP"), false),
];
const POLICIES: &[Choice<Option<&str>>] = &[
    (None, true),
    (Some("Local"), true),
    (Some("Cluster"), true),
    (Some("local"), false),
    (Some("All"), false),
];
const TYPES: &[Choice<Option<&str>>] =
    &[(None, true), (Some("ClusterIP"), true), (Some("LoadBalancer"), true), (Some("Cluster"), false)];
const AFFINITIES: &[Choice<Option<&str>>] =
    &[(None, true), (Some("None"), true), (Some("ClientIP"), true), (Some("Cookie"), false)];
const NAMES: [&str; 4] = ["f0", "f1", "f2", "F\u{fffd} \n3"];

/// The fields with invalid values, which must be refused.
struct InvalidFields(BTreeSet<String>);

impl InvalidFields {
    fn take<T: Clone>(&mut self, field: impl Into<String>, (value, is_good): &Choice<T>) -> T {
        if !is_good {
            self.0.insert(field.into());
        }
        value.clone()
    }
}

type Port = (usize, Choice<Option<&'static str>>, Choice<i32>, Choice<Option<i32>>);

fn port() -> impl Strategy<Value = Port> {
    (0_usize..4, select(PROTOCOLS), select(PORTS), select(NODE_PORTS))
}

/// The order in which a port's fields are checked: the first invalid field is refused and ends the port, except for
/// its node port.
fn ports(ports: &[Port], bad: &mut InvalidFields) -> Vec<Value> {
    let mut taken = BTreeSet::new();
    let mut list = Vec::new();
    for (i, (name, protocol, number, node_port)) in ports.iter().enumerate() {
        let field = |field: &str| format!("spec.ports[{i}].{field}");
        list.push(json!({"name": format!("p{name}"), "protocol": protocol.0, "port": number.0, "nodePort": node_port.0}));
        if !protocol.1 {
            bad.take(field("protocol"), protocol);
        } else if !number.1 {
            bad.take(field("port"), number);
        } else {
            bad.take(field("nodePort"), node_port);
            if !taken.insert((*name, protocol.0.unwrap_or("TCP"))) {
                bad.0.insert(field("name"));
            }
        }
    }
    list
}

pub fn service() -> impl Strategy<Value = Made<Box<Service>>> {
    let addresses = (select(V4), select(V6), 0_u8..4);
    let outside = (
        proptest::collection::vec(select(DIALLED), 0..4),
        proptest::collection::vec((select(DIALLED), select(MODES)), 0..4),
        proptest::collection::vec(select(RANGES), 0..3),
    );
    let words = (select(TYPES), select(POLICIES), select(POLICIES), select(AFFINITIES));
    let name = proptest::option::weighted(0.95, select(&NAMES[..]));
    (
        name,
        addresses,
        outside,
        words,
        proptest::collection::vec(port(), 0..6),
        proptest::option::of(-1..90_000_i32),
    )
        .prop_map(|(name, (v4, v6, which), (external, ingress, ranges), words, list, timeout)| {
            let mut bad = InvalidFields(BTreeSet::new());
            let ips: Vec<Choice<&str>> = match which {
                0 => Vec::new(),
                1 => vec![v4],
                2 => vec![v6],
                _ => vec![v4, v6],
            };
            if ips.is_empty() {
                bad.0.insert("spec.clusterIP".to_owned());
            }
            let clusters: Vec<&str> =
                ips.iter().enumerate().map(|(i, ip)| bad.take(format!("spec.clusterIPs[{i}]"), ip)).collect();
            let external: Vec<&str> = external
                .iter()
                .enumerate()
                .map(|(i, ip)| bad.take(format!("spec.externalIPs[{i}]"), ip))
                .collect();
            let ingress: Vec<Value> = ingress
                .iter()
                .enumerate()
                .map(|(i, (ip, mode))| {
                    let field = |field: &str| format!("status.loadBalancer.ingress[{i}].{field}");
                    if mode.0 != Some("Proxy") {
                        bad.take(field(if mode.1 { "ip" } else { "ipMode" }), &(ip.0, mode.1 && ip.1));
                    }
                    json!({"ip": ip.0, "ipMode": mode.0})
                })
                .collect();
            let ranges: Vec<&str> = ranges
                .iter()
                .enumerate()
                .map(|(i, range)| bad.take(format!("spec.loadBalancerSourceRanges[{i}]"), range))
                .collect();
            let affinity = bad.take("spec.sessionAffinity", &words.3);
            if affinity == Some("ClientIP") {
                let is_good = timeout.is_none_or(|seconds| (1..=86_400).contains(&seconds));
                bad.take("spec.sessionAffinityConfig.clientIP.timeoutSeconds", &((), is_good));
            }
            let spec = json!({
                "type": bad.take("spec.type", &words.0),
                "internalTrafficPolicy": bad.take("spec.internalTrafficPolicy", &words.1),
                "externalTrafficPolicy": bad.take("spec.externalTrafficPolicy", &words.2),
                "clusterIPs": clusters,
                "externalIPs": external,
                "loadBalancerSourceRanges": ranges,
                "sessionAffinity": affinity,
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}},
                "ports": ports(&list, &mut bad),
            });
            if name.is_none() {
                bad.0 = ["metadata.name".to_owned()].into();
            }
            let object = json!({"metadata": {"name": name, "namespace": "fuzz"}, "spec": spec,
                "status": {"loadBalancer": {"ingress": ingress}}});
            Made { object: Box::new(serde_json::from_value(object).expect("a Service")), bad: bad.0 }
        })
}

const MODES: &[Choice<Option<&str>>] =
    &[(None, true), (Some("VIP"), true), (Some("Proxy"), true), (Some("proxy"), false), (Some(""), false)];

/// Addresses of endpoints, including ones that no client could dial.
const ENDPOINTS: &[Choice<&str>] = &[
    ("10.98.0.1", true),
    ("10.98.00.02", true),
    ("10.0.0.1", true),
    ("127.0.0.1", true),
    ("0.0.0.0", false),
    ("224.0.0.1", false),
    ("fd00::1", false),
    ("", false),
    ("ten", false),
];

pub fn slice() -> impl Strategy<Value = Made<Box<EndpointSlice>>> {
    let kinds: &[Choice<&str>] =
        &[("IPv4", true), ("IPv4", true), ("FQDN", true), ("ipv4", false), ("", false)];
    let port_names: &[Choice<Option<&str>>] =
        &[(Some("p0"), true), (Some("p1"), true), (Some(""), true), (None, false)];
    let numbers = proptest::option::weighted(0.9, select(PORTS));
    let ports = proptest::collection::vec((select(port_names), select(PROTOCOLS), numbers), 0..4);
    let condition = || proptest::option::of(any::<bool>());
    let endpoint = (
        proptest::option::weighted(0.9, select(ENDPOINTS)),
        condition(),
        condition(),
        condition(),
        any::<bool>(),
    );
    // Sometimes more than any slice may have.
    let many = prop_oneof![9 => Just(0_usize), 1 => Just(1_500)];
    let service = proptest::option::weighted(0.9, select(&["f0", "f1", "f2", ""][..]));
    let name = proptest::option::weighted(0.95, select(&NAMES[..]));
    (name, service, select(kinds), ports, proptest::collection::vec(endpoint, 0..5), many).prop_map(
        |(name, service, kind, ports, endpoints, many)| {
            let mut bad = InvalidFields(BTreeSet::new());
            let ports: Vec<Value> = ports
                .iter()
                .enumerate()
                .map(|(i, (name, protocol, number))| {
                    if !name.1 || number.is_none_or(|(number, _)| number == 0) {
                        bad.0.insert(format!("ports[{i}]"));
                    } else {
                        bad.take(format!("ports[{i}].protocol"), protocol);
                        bad.take(format!("ports[{i}].port"), &number.unwrap_or((0, true)));
                    }
                    json!({"name": name.0, "protocol": protocol.0, "port": number.map(|(number, _)| number)})
                })
                .collect();
            let mut list: Vec<Value> = Vec::new();
            for (i, (address, ready, serving, terminating, is_bare)) in endpoints.iter().enumerate() {
                let addresses: Vec<&str> =
                    address.iter().map(|a| bad.take(format!("endpoints[{i}].addresses[0]"), a)).collect();
                list.push(match is_bare {
                    true => json!({"addresses": addresses}),
                    false => json!({"addresses": addresses, "conditions":
                        {"ready": ready, "serving": serving, "terminating": terminating},
                        "nodeName": "", "hints": {"forZones": [{"name": ""}]}}),
                });
            }
            list.extend((0..many).map(|n| json!({"addresses": [format!("10.99.{}.{}", n / 250, n % 250)]})));
            if service.is_none_or(str::is_empty) {
                bad.0 = ["metadata.labels.kubernetes.io/service-name".to_owned()].into();
            } else if !kind.1 {
                bad.0 = ["addressType".to_owned()].into();
            }
            if kind.0 == "FQDN" {
                bad.0.clear();
            }
            if name.is_none() {
                bad.0 = ["metadata.name".to_owned()].into();
            }
            let labels = json!({"kubernetes.io/service-name": service.unwrap_or_default()});
            let object = json!({"metadata": {"name": name, "namespace": "fuzz", "labels": labels},
                "addressType": kind.0, "ports": ports, "endpoints": list});
            Made { object: Box::new(serde_json::from_value(object).expect("a slice")), bad: bad.0 }
        },
    )
}

pub fn node() -> impl Strategy<Value = Made<Box<Node>>> {
    let addresses: &[Choice<&str>] = &[("192.168.0.9", true), ("fd00::9", true), ("", false), ("n1", false)];
    let kinds = select(&["InternalIP", "ExternalIP", "Hostname", ""][..]);
    let listed = proptest::collection::vec((kinds, select(addresses)), 0..4);
    let name = proptest::option::weighted(0.9, select(&["test-node", "other"][..]));
    (name, listed, proptest::collection::vec(select(RANGES), 0..3)).prop_map(|(name, listed, cidrs)| {
        let mut bad = InvalidFields(BTreeSet::new());
        let listed: Vec<Value> = listed
            .iter()
            .enumerate()
            .map(|(i, (kind, address))| {
                if kind.ends_with("IP") {
                    bad.take(format!("status.addresses[{i}].address"), address);
                }
                json!({"type": kind, "address": address.0})
            })
            .collect();
        let cidrs: Vec<&str> =
            cidrs.iter().enumerate().map(|(i, cidr)| bad.take(format!("spec.podCIDRs[{i}]"), cidr)).collect();
        if name.is_none() {
            bad.0 = ["metadata.name".to_owned()].into();
        }
        let object =
            json!({"metadata": {"name": name}, "spec": {"podCIDRs": cidrs}, "status": {"addresses": listed}});
        Made { object: Box::new(serde_json::from_value(object).expect("a Node")), bad: bad.0 }
    })
}
