//! A Service in the syntax of the groups, and its objects for the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::NAMESPACE;
use super::endpoint::Endpoint;
use crate::manifests::{SERVER_PORT, SERVICE_PORT};
use crate::topology::{Addrs, Family};

/// Fields that are not given have the usual value: dual stack and of type LoadBalancer, so that the Service has every
/// kind of frontend, over TCP and UDP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Merged into the usual spec; null removes a field.
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Labels of its slices.
    #[serde(default)]
    pub slice_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// The ipMode of each of its load-balancer addresses.
    #[serde(default = "one_vip")]
    pub vips: Vec<Option<String>>,
    /// node1 has the Service's first load-balancer address.
    #[serde(default)]
    pub is_held: bool,
    /// Number of external addresses.
    #[serde(default = "one")]
    pub external: u8,
}

fn one() -> u8 {
    1
}

fn one_vip() -> Vec<Option<String>> {
    vec![Some("VIP".to_owned())]
}

/// Number of a Service among all, which determines its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u8);

impl Number {
    /// An address without a host. `index` distinguishes the addresses of one Service.
    pub const fn external(self, index: u8) -> Addrs {
        address(19, self.0, index)
    }

    /// The same for load-balancer addresses.
    pub const fn vip(self, index: u8) -> Addrs {
        address(18, self.0, index)
    }
}

const fn address(net: u8, number: u8, index: u8) -> Addrs {
    Addrs {
        v4: Ipv4Addr::new(198, net, number, index + 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, net as u16, 0, 0, 0, number as u16, index as u16 + 1),
    }
}

impl Service {
    pub fn object(&self, name: &str, number: Number) -> Value {
        let port = |protocol: &str, port_name: &str| json!({"name": port_name, "protocol": protocol, "port": SERVICE_PORT, "targetPort": SERVER_PORT});
        let external: Vec<IpAddr> = (0..self.external).flat_map(|n| both(number.external(n))).collect();
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": self.labels},
            "spec": {
                "type": "LoadBalancer",
                "ipFamilyPolicy": "RequireDualStack",
                "ports": [port("TCP", "tcp"), port("UDP", "udp")],
                "externalIPs": external,
            },
        });
        for (key, value) in self.spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        object
    }

    /// The status that a load balancer's controller would write.
    pub fn status(&self, name: &str, number: Number) -> Value {
        let entry = |ip: IpAddr, mode: &Option<String>| match mode {
            Some(mode) => json!({"ip": ip, "ipMode": mode}),
            None => json!({"ip": ip}),
        };
        let entries =
            (0..).zip(&self.vips).flat_map(|(n, mode)| both(number.vip(n)).map(|ip| entry(ip, mode)));
        let mut object = self.object(name, number);
        object["status"] = json!({"loadBalancer": {"ingress": entries.collect::<Vec<_>>()}});
        object
    }

    /// A Service that shows that all earlier writes are in force.
    pub fn marker(host: &str) -> Self {
        let endpoint = host.parse().unwrap_or_else(|_| unreachable!("a host alone is an endpoint"));
        Self {
            spec: json!({"type": "ClusterIP"}),
            labels: BTreeMap::new(),
            slice_labels: BTreeMap::new(),
            endpoints: vec![endpoint],
            vips: Vec::new(),
            is_held: false,
            external: 0,
        }
    }

    pub fn has_vips(&self) -> bool {
        !self.vips.is_empty() && self.spec["type"].as_str().is_none_or(|kind| kind == "LoadBalancer")
    }

    /// One slice per family and number.
    pub fn slices(&self, name: &str, number: Number, places: &BTreeMap<String, Place>) -> Result<Vec<Value>> {
        let numbers: BTreeSet<u8> = self.endpoints.iter().map(|endpoint| endpoint.slice).chain([1]).collect();
        let mut labels = json!({"kubernetes.io/service-name": name});
        for (key, value) in &self.slice_labels {
            labels[key] = value.as_str().into();
        }
        let service = self.object(name, number);
        let ports =
            service["spec"]["ports"].as_array().into_iter().flatten().map(slice_port).collect::<Vec<_>>();
        let slice = |slice: u8, family: Family| -> Result<Value> {
            let endpoints =
                self.endpoints.iter().filter(|endpoint| endpoint.slice == slice).map(|endpoint| {
                    let place = places
                        .get(&endpoint.host)
                        .with_context(|| format!("{name}: no host {}", endpoint.host))?;
                    Ok(endpoint.object(place.addrs.of(family), &place.node))
                });
            Ok(json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": format!("{name}-{}-{slice}", family.to_string().to_lowercase()), "namespace": NAMESPACE, "labels": labels},
                "addressType": family.to_string(),
                "ports": ports,
                "endpoints": endpoints.collect::<Result<Vec<_>>>()?,
            }))
        };
        numbers.into_iter().flat_map(|number| Family::BOTH.map(|family| slice(number, family))).collect()
    }
}

/// Location of an endpoint.
#[derive(Clone, Debug)]
pub struct Place {
    pub addrs: Addrs,
    pub node: String,
}

fn both(addrs: Addrs) -> [IpAddr; 2] {
    Family::BOTH.map(|family| addrs.of(family))
}

fn slice_port(port: &Value) -> Value {
    json!({"name": port["name"].as_str().unwrap_or_default(), "protocol": port["protocol"], "port": port["targetPort"]})
}
