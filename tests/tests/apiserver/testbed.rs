//! A testbed with a real control plane: the usual hosts, the real daemon on node1, and traffic that must never fail.

mod look;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use svc_tests::agent::{Agent, Job, Via};
use svc_tests::cluster::kubeconfig;
use svc_tests::daemon::{Daemon, Flags, Source};
use svc_tests::topology::{Addrs, Node, Options};
use svc_tests::world::World;

use crate::objects;
use crate::plane::{ACCOUNTS, ROLE, Request, SharedControlPlane};
use crate::relay::Relay;

/// A change that the API server has accepted shows in the traffic within this time, on a busy machine, too.
pub const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// node1's interface towards the hub.
pub const LINK: &str = "api0";
/// Requests per second of each of the four kinds of traffic.
const RATE: u32 = 30;

/// Client pod `pod` and server `near` on node1, server `far` on node2, `client` outside, a daemon on node1 alone.
#[derive(Debug)]
pub struct Testbed {
    pub name: String,
    /// Port of the servers here; other testbeds have the same addresses.
    pub port: u16,
    /// Between the daemon and the API server, if the testbed has one.
    relay: Option<Relay>,
    /// Running jobs, with a description.
    traffic: Vec<(String, Job)>,
    world: Mutex<World>,
    agents: BTreeMap<String, Arc<Agent>>,
    addrs: BTreeMap<String, Addrs>,
    plane: Arc<SharedControlPlane>,
}

impl Testbed {
    /// The daemon connects to the API server directly.
    pub fn direct(name: &str, plane: Arc<SharedControlPlane>) -> Result<Self> {
        Self::new(name, plane, false, &[])
    }

    /// The daemon has these flags, too.
    pub fn with_flags(name: &str, plane: Arc<SharedControlPlane>, flags: &[&str]) -> Result<Self> {
        Self::new(name, plane, false, flags)
    }

    /// The daemon connects to the API server through a relay.
    pub fn relayed(name: &str, plane: Arc<SharedControlPlane>) -> Result<Self> {
        Self::new(name, plane, true, &[])
    }

    fn new(name: &str, plane: Arc<SharedControlPlane>, relayed: bool, flags: &[&str]) -> Result<Self> {
        let number = plane.number_node();
        let port = 8000 + u16::from(number);
        let mut world = World::new(name, Options::default())?;
        for (node, pod) in [(1, "pod"), (1, "near"), (2, "far")] {
            world.topology.node_mut(node).add_pod(pod)?.host.agent.serve(port)?;
        }
        join_hub(&plane, world.topology.node(1), number)?;
        let hosts = world.topology.nodes.iter().flat_map(Node::hosts).chain([&world.topology.client]);
        let agents = hosts.map(|host| (host.name().to_owned(), Arc::clone(&host.agent))).collect();
        let hosts = world.topology.nodes.iter().flat_map(Node::hosts);
        let addrs = hosts.map(|host| (host.name().to_owned(), host.addrs)).collect();
        let netns = &world.topology.node(1).host.netns;
        let relay = relayed.then(|| Relay::start(netns, plane.address()?)).transpose()?;
        let mut testbed = Self {
            name: name.to_owned(),
            port,
            relay,
            traffic: Vec::new(),
            world: Mutex::new(world),
            agents,
            addrs,
            plane,
        };
        let steady = testbed.introduce()?;
        testbed.start_daemon(flags)?;
        testbed.traffic = testbed.start_traffic(objects::cluster_ips(&steady)?)?;
        Ok(testbed)
    }

    pub fn plane(&self) -> &SharedControlPlane {
        &self.plane
    }

    /// The name of a node in Kubernetes.
    pub fn node_name(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    /// Creates everything needed in the API server: Nodes, the daemon's ServiceAccount with only the shipped role,
    /// and a Service for all servers that no case changes. Returns that Service.
    fn introduce(&self) -> Result<Value> {
        let nodes: Vec<_> = (1..=2).map(|index| self.node(index)).collect();
        let pods = ["near", "far"].into_iter().map(|host| self.pod(&self.name, host, true));
        let alive = nodes.into_iter().chain(pods.collect::<Result<Vec<_>>>()?).collect::<Vec<_>>();
        let steady = self.service(&self.name, "steady", &json!({"selector": {"testbed": self.name}}));
        let still = [objects::account(ACCOUNTS, &self.name), self.binding()];
        let all = [&still[..], &objects::home(&self.name), &alive, &[steady]].concat();
        let made = self.plane.create(&all)?;
        self.plane.set_status(&alive)?;
        made.into_iter().next_back().context("nothing was created")
    }

    pub fn node(&self, index: usize) -> Value {
        objects::node(&self.node_name(index), self.lock().topology.node(index))
    }

    /// Creates a Ready Node object.
    pub fn make_node(&self, index: usize) -> Result<()> {
        let node = self.node(index);
        self.plane.create(slice::from_ref(&node))?;
        self.plane.set_status(&[node])
    }

    /// A Pod that stands for a host; labels `app` (the host) and `testbed`.
    pub fn pod(&self, namespace: &str, host: &str, is_ready: bool) -> Result<Value> {
        let node = self.node_name(if host == "far" { 2 } else { 1 });
        let labels = json!({"app": host, "testbed": self.name});
        Ok(objects::pod([namespace, host, &node], &labels, self.addrs(host)?, self.port, is_ready))
    }

    /// A dual-stack Service on port 80 for the servers; `more` is merged into its spec.
    pub fn service(&self, namespace: &str, name: &str, more: &Value) -> Value {
        objects::service([namespace, name], self.port, more)
    }

    /// Gives the daemon's account the shipped role.
    pub fn binding(&self) -> Value {
        objects::binding(&self.name, ROLE, ACCOUNTS)
    }

    /// Starts a daemon on the next node, with the rights of the first.
    pub fn start_daemon_on(&self, node: usize, flags: &[&str]) -> Result<()> {
        let mut world = self.lock();
        join_hub(&self.plane, world.topology.node(node), self.plane.number_node())?;
        let kubeconfig = kubeconfig_path(&world);
        let source = Source::Kubernetes { kubeconfig, node_name: self.node_name(node), link: LINK.into() };
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        world.start_next_with(source, Flags::default(), flags)?;
        world.ready(node)
    }

    /// Calls `act` with the world.
    pub fn on_world<T>(&self, act: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        act(&mut self.lock())
    }

    fn start_daemon(&self, flags: &[&str]) -> Result<()> {
        let token = self.plane.kubectl(&["create", "token", &self.name, "-n", ACCOUNTS])?;
        self.write_token(token.trim())?;
        let mut world = self.lock();
        let path = kubeconfig_path(&world);
        let text = {
            let control = self.plane.control();
            let url = self.relay.as_ref().map_or_else(|| control.url(), Relay::url);
            kubeconfig(&url, &control.ca(), &json!({"tokenFile": world.dir().join("token")}))
        };
        fs::write(&path, text.to_string()).context("write the kubeconfig")?;
        let source = Source::Kubernetes { kubeconfig: path, node_name: self.node_name(1), link: LINK.into() };
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        world.start_next_with(source, Flags::default(), flags)?;
        world.ready(1)
    }

    /// Replaces the daemon's token.
    pub fn write_token(&self, token: &str) -> Result<()> {
        let dir = self.lock().dir();
        let (path, fresh) = (dir.join("token"), dir.join("token.new"));
        fs::write(&fresh, token).and_then(|()| fs::rename(&fresh, &path)).context("write the token")
    }

    /// Starts new connections and streams from the pod.
    fn start_traffic(&self, steady: [SocketAddr; 2]) -> Result<Vec<(String, Job)>> {
        let mut traffic = Vec::new();
        for to in steady {
            self.soon_answered_by("far", "pod", to)?;
            let pod = self.agent("pod")?;
            traffic.push((format!("new connections to {to}"), pod.start_load(Via::Tcp, to, RATE)?));
            traffic.push((format!("a stream to {to}"), pod.start_stream(to, RATE)?));
        }
        Ok(traffic)
    }

    pub fn agent(&self, name: &str) -> Result<&Arc<Agent>> {
        self.agents.get(name).with_context(|| format!("no host {name}"))
    }

    pub fn addrs(&self, name: &str) -> Result<Addrs> {
        self.addrs.get(name).copied().with_context(|| format!("no host {name}"))
    }

    pub fn relay(&self) -> Result<&Relay> {
        self.relay.as_ref().context("this testbed has no relay")
    }

    /// The daemon's requests to the API server.
    pub fn requests(&self) -> Result<Vec<Request>> {
        self.plane.requests(&self.name)
    }

    /// Drops all packets to the API server; `false` stops that.
    pub fn block(&self, blocked: bool) -> Result<()> {
        let hole = format!(
            "table inet hole {{
                chain in {{ type filter hook input priority raw; iifname {LINK} drop; }}
                chain out {{ type filter hook output priority raw; oifname {LINK} drop; }}
            }}"
        );
        let rules = if blocked { hole.as_str() } else { "delete table inet hole" };
        self.on_node(|node, _| node.host.netns.nft(rules))
    }

    /// Calls `act` with node1 and its daemon.
    pub fn on_node<T>(&self, act: impl FnOnce(&Node, &mut Daemon) -> Result<T>) -> Result<T> {
        let mut world = self.lock();
        let (node, daemon) = world.on_node(1)?;
        act(node, daemon)
    }

    pub fn ready(&self) -> Result<()> {
        self.lock().ready(1)
    }

    /// The findings of `svc-ctl check --all-nodes` on node1, with the daemon's own rights.
    pub fn check(&self) -> Result<Vec<Value>> {
        let kubeconfig = kubeconfig_path(&self.lock());
        self.on_node(|node, daemon| {
            let mut command = node.host.command(daemon.binary())?;
            command.args(["check", "--all-nodes", "-o", "json", "--kubeconfig"]).arg(&kubeconfig);
            command.arg("--pin-dir").arg(daemon.pins()).arg("--run-dir").arg(daemon.run_dir());
            // The exit code says that a check has failed.
            let output = command.output().context("svc-ctl check")?;
            serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
        })
    }

    /// Diagnostic output for a failed expectation.
    pub fn diagnosis(&self) -> String {
        let diagnosis = self.on_node(|_, daemon| {
            let status = daemon.status().unwrap_or_default();
            let parts = ["synced", "generation", "last_error", "complaints"]
                .map(|key| format!("{key} {}", status[key]));
            Ok(format!("svc-ctl: {}\n{}", parts.join(", "), daemon.log()))
        });
        diagnosis.unwrap_or_else(|error| format!("{error:#}"))
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemon's.
fn kubeconfig_path(world: &World) -> PathBuf {
    world.dir().join("kubeconfig")
}

/// Gives the node an interface to the hub's bridge and an address there.
fn join_hub(plane: &SharedControlPlane, node: &Node, number: u8) -> Result<()> {
    let netns = &node.host.netns;
    plane.control().hub().ip(&format!(
        "link add n{number} type veth peer name {LINK} netns {}\nlink set n{number} master br0 up",
        netns.name()
    ))?;
    netns.ip(&format!("addr add 172.30.0.{number}/24 dev {LINK}\nlink set {LINK} up"))
}
