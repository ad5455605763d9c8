//! The API server that both proxies watch: writes the objects, and returns the addresses that it assigned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::NAMESPACE;
use super::frontend::{At, Frontend};
use super::row::Row;
use super::service::{Number, Place, Service};
use crate::agent::Via;
use crate::cluster::{ControlPlane, Settings};
use crate::manifests::{SERVER_PORT, SERVICE_PORT};
use crate::topology::{Addrs, Family, Node};
use crate::{command, wait};

/// Unallocated: the API server picks at random above the range's first 256 addresses, which are for Services that name
/// theirs (docs of Kubernetes, "Service ClusterIP allocation").
const UNALLOCATED: [&str; 2] = ["10.96.0.250", "fd00:96::fa"];

pub struct ApiServer {
    control: ControlPlane,
    settings: Settings,
    numbers: BTreeMap<String, Number>,
    /// The names of each Service's slices.
    slices: BTreeMap<String, BTreeSet<String>>,
    /// As in the API server.
    services: BTreeMap<String, Value>,
    /// Load-balancer addresses that node1 has itself.
    pub held: Vec<Addrs>,
}

impl ApiServer {
    pub fn start() -> Result<Self> {
        let mut settings = Settings::of_test("witness")?;
        settings.controller_flags = vec!["--node-monitor-grace-period=24h".into()];
        let control = ControlPlane::start(&settings)?;
        let api_server = Self {
            control,
            settings,
            numbers: BTreeMap::new(),
            slices: BTreeMap::new(),
            services: BTreeMap::new(),
            held: Vec::new(),
        };
        api_server
            .apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})])?;
        Ok(api_server)
    }

    pub fn kube_proxy(&self) -> Result<PathBuf> {
        self.settings.program("kube-proxy")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.control.kubeconfig("admin")
    }

    pub fn hub(&self) -> &crate::netns::Netns {
        self.control.hub()
    }

    /// node1 is in zone-a, node2 in zone-b.
    pub fn introduce(&self, nodes: &[Node]) -> Result<()> {
        let objects: Vec<_> =
            nodes.iter().zip(["zone-a", "zone-b"]).map(|(node, zone)| node_object(node, zone)).collect();
        self.feed(&["create"], &objects)?;
        self.set_status(&objects)
    }

    /// Creates, changes or (`None`) deletes Services.
    pub fn set(
        &mut self,
        services: &[(String, Option<Service>)],
        places: &BTreeMap<String, Place>,
    ) -> Result<()> {
        let (mut objects, mut statuses, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (name, service) in services {
            let Some(service) = service else {
                self.kubectl(&["delete", "service", name])?;
                continue;
            };
            let next = u8::try_from(self.numbers.len()).context("too many Services")?;
            let number = *self.numbers.entry(name.clone()).or_insert(Number(next));
            objects.push(service.object(name, number));
            let slices = service.slices(name, number, places)?;
            let slice_names: BTreeSet<_> = slices
                .iter()
                .filter_map(|slice| slice["metadata"]["name"].as_str())
                .map(str::to_owned)
                .collect();
            let old = self.slices.insert(name.clone(), slice_names.clone()).unwrap_or_default();
            gone.extend(old.difference(&slice_names).cloned());
            objects.extend(slices);
            self.held.extend(service.is_held.then(|| number.vip(0)));
            if service.has_vips() {
                statuses.push(service.status(name, number));
            }
        }
        if !gone.is_empty() {
            let gone = gone.iter().map(String::as_str);
            self.kubectl(&["delete", "endpointslices"].into_iter().chain(gone).collect::<Vec<_>>())?;
        }
        self.apply(&objects)?;
        self.set_status(&statuses)?;
        let list: Value = serde_json::from_str(&self.kubectl(&["get", "services", "-o", "json"])?)?;
        let items = list["items"].as_array().into_iter().flatten();
        self.services = items
            .filter_map(|item| Some((item["metadata"]["name"].as_str()?.to_owned(), item.clone())))
            .collect();
        Ok(())
    }

    /// The addresses that a row's client dials.
    pub fn addresses(&self, row: &Row, places: &BTreeMap<String, Place>) -> Result<Vec<SocketAddr>> {
        row.frontends.iter().map(|frontend| self.address(row, frontend, places)).collect()
    }

    fn address(
        &self,
        row: &Row,
        frontend: &Frontend,
        places: &BTreeMap<String, Place>,
    ) -> Result<SocketAddr> {
        let place = |host: &str| places.get(host).with_context(|| format!("no host {host}"));
        let number =
            || self.numbers.get(&row.service).copied().with_context(|| format!("no Service {}", row.service));
        let (ip, port) = match &frontend.at {
            At::ClusterIp => (self.cluster_ip(&row.service, row.family)?, SERVICE_PORT),
            At::NodePort(host) => (place(host)?.addrs.of(row.family), self.node_port(&row.service, row.via)?),
            At::External(n) => (number()?.external(*n).of(row.family), SERVICE_PORT),
            At::Vip(n) => (number()?.vip(*n).of(row.family), SERVICE_PORT),
            At::Unallocated => (UNALLOCATED[usize::from(row.family == Family::V6)].parse()?, SERVICE_PORT),
            At::Host(host) => (place(host)?.addrs.of(row.family), SERVER_PORT),
        };
        Ok((ip, frontend.port.unwrap_or(port)).into())
    }

    pub fn cluster_ip(&self, service: &str, family: Family) -> Result<IpAddr> {
        let ips = self.services.get(service).and_then(|service| service["spec"]["clusterIPs"].as_array());
        let mut ips = ips.into_iter().flatten().filter_map(|ip| ip.as_str()?.parse::<IpAddr>().ok());
        let found = ips.find(|ip| ip.is_ipv4() == (family == Family::V4));
        found.with_context(|| format!("{service} has no ClusterIP of {family}"))
    }

    /// The first NodePort of the protocol.
    fn node_port(&self, service: &str, via: Via) -> Result<u16> {
        let protocol = if via == Via::Tcp { "TCP" } else { "UDP" };
        let ports = self.services.get(service).and_then(|service| service["spec"]["ports"].as_array());
        let port = ports.into_iter().flatten().find(|port| port["protocol"] == protocol);
        let number = port.and_then(|port| port["nodePort"].as_u64()?.try_into().ok());
        number.with_context(|| format!("{service} has no NodePort over {protocol}"))
    }

    fn apply(&self, objects: &[Value]) -> Result<()> {
        self.feed(&["apply", "--server-side", "--force-conflicts"], objects)
    }

    fn set_status(&self, objects: &[Value]) -> Result<()> {
        // Retried, because controllers write to it, too.
        wait::until("the status is taken", Duration::from_secs(10), || {
            self.feed(&["replace", "--subresource=status"], objects).map(Some)
        })
    }

    /// One kubectl process for many objects: starting one costs more than the requests.
    fn feed(&self, arguments: &[&str], objects: &[Value]) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        command::feed(self.control.kubectl()?.args(arguments).args(["-f", "-"]), &list).map(drop)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.control.kubectl()?.args(["-n", NAMESPACE]).args(arguments))
    }
}

fn node_object(node: &Node, zone: &str) -> Value {
    let (own, pods) = (node.host.addrs, node.pod_cidrs());
    let (pods4, pods6) = (format!("{}/24", pods.v4), format!("{}/64", pods.v6));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name(), "labels": {"topology.kubernetes.io/zone": zone}},
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
