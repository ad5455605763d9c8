//! A whole cluster: control plane, nodes, a client outside, the proxy, DNS.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::addresses::CLIENT;
use super::args::{Dns, Proxy, Up};
use super::control_plane::ControlPlane;
use super::node::{self, Node, network};
use super::places::Places;
use super::settings::Settings;
use super::steps::Steps;
use super::{dns, proxy};
use crate::netns::Netns;
use crate::{command, wait};

/// Maximum time until a node is ready, including the import of images.
const NODE_LIMIT: Duration = Duration::from_secs(120);
/// Maximum time until a manifest's pods are ready.
const PODS_LIMIT: Duration = Duration::from_secs(120);

/// A running cluster; dropping it removes everything.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: the nodes depend on the hub.
    nodes: Vec<Node>,
    client: Netns,
    plane: ControlPlane,
}

impl Cluster {
    /// Makes a cluster; returns when nodes, proxy and DNS are ready.
    pub fn up(settings: &Settings, options: &Up, steps: &mut Steps) -> Result<Self> {
        let settings = Settings { nodes: options.nodes, ..settings.clone() };
        let plane = steps.run("the API server is ready", || ControlPlane::begin(&settings))?;
        let client = network::machine(plane.hub(), &settings.host("client"), "client", CLIENT)?;
        let mut cluster = Self { nodes: Vec::new(), client, plane };
        let has_dns = steps.run("the nodes are started", || cluster.start_parts(options))?;
        steps.run("the controllers are ready", || cluster.plane.await_controllers())?;
        for index in 1..=options.nodes {
            let name = node::name(index);
            steps.run(&format!("{name} is ready"), || cluster.await_node(&name))?;
        }
        if options.proxy == Proxy::Svc {
            steps.run("svc is ready on every node", || {
                cluster.await_rollout("kube-system", proxy::DAEMON_SET)
            })?;
        }
        // Without a proxy CoreDNS cannot reach the API server, so it is not awaited.
        if has_dns && options.dns == Dns::Coredns && options.proxy != Proxy::None {
            steps.run("DNS is ready", || cluster.await_rollout("kube-system", dns::DEPLOYMENT))?;
        }
        Ok(cluster)
    }

    /// Creates all objects at once, so that pods wait for nodes. True if DNS is among them.
    fn start_parts(&mut self, options: &Up) -> Result<bool> {
        let settings = self.plane.settings();
        let mut objects: Vec<String> =
            (1..=options.nodes).map(|index| node::object(index, &options.zones).to_string()).collect();
        let mut kubectl = self.plane.kubectl()?;
        kubectl.args(["apply", "-f", "-"]);
        if options.proxy == Proxy::Svc {
            objects.push(proxy::svc_manifests(settings, options.dns)?);
        }
        let dns = dns::manifests(settings, options)?;
        objects.extend(dns.clone());
        command::feed(&mut kubectl, &objects.join("\n---\n"))?;
        for index in 1..=options.nodes {
            self.nodes.push(Node::start(index, options, &self.plane)?);
        }
        Ok(dns.is_some())
    }

    pub fn plane(&mut self) -> &mut ControlPlane {
        &mut self.plane
    }

    pub fn places(&self) -> Places {
        Places::of(self.plane.settings())
    }

    /// A machine on the nodes' network, outside the cluster.
    pub fn client(&self) -> &Netns {
        &self.client
    }

    /// `node` counts from 1.
    pub fn node(&self, node: usize) -> Option<&Node> {
        self.nodes.get(node.checked_sub(1)?)
    }

    /// Fails if any component has ended; the error names it.
    pub fn check(&mut self) -> Result<()> {
        self.plane.check()?;
        self.nodes.iter_mut().try_for_each(Node::check)
    }

    fn await_node(&mut self, name: &str) -> Result<()> {
        self.await_fact(&format!("{name} is ready"), NODE_LIMIT, |plane| {
            let text = command::run(plane.kubectl()?.args(["get", "node", name, "-o", "json"]))?;
            let node: Value = serde_json::from_str(&text).context("parse a Node")?;
            let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
            let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            Ok(conditions.into_iter().any(is_ready).then_some(()))
        })
    }

    /// Waits until all pods of a Deployment or DaemonSet (`kind/name`) are up to date and ready.
    pub fn await_rollout(&mut self, namespace: &str, object: &str) -> Result<()> {
        let waited = self.await_fact(&format!("{object} is rolled out"), PODS_LIMIT, |plane| {
            let ask = ["-n", namespace, "rollout", "status", "--watch=false", object];
            let answer = command::run(plane.kubectl()?.args(ask))?;
            Ok(answer.contains("successfully rolled out").then_some(()))
        });
        waited.map_err(|error| error.context(self.describe(namespace, object)))
    }

    /// Like [`wait::until`]; fails at once if a component ends.
    fn await_fact<T>(
        &mut self,
        what: &str,
        limit: Duration,
        look: impl Fn(&ControlPlane) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(what, limit, || {
            if let Err(ended) = self.check() {
                return Ok(Some(Err(ended)));
            }
            Ok(look(&self.plane)?.map(Ok))
        })?
    }

    /// Description of pods that do not become ready.
    fn describe(&self, namespace: &str, object: &str) -> String {
        let ask = |words: &[&str]| {
            let answer = self.plane.kubectl().and_then(|mut kubectl| command::run(kubectl.args(words)));
            answer.unwrap_or_else(|error| format!("{error:#}"))
        };
        let pods = ask(&["-n", namespace, "get", "pods", "-o", "wide"]);
        let events = ask(&["-n", namespace, "get", "events", "--field-selector=type=Warning"]);
        let log = ask(&["-n", namespace, "logs", "--all-pods", "--tail=15", object]);
        format!("pods:\n{pods}\nwarnings:\n{events}\nlogs:\n{log}")
    }

    /// Leaves the cluster running, to be found again by its name.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}
