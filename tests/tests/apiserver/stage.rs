//! A node of the real control plane: the usual hosts, the real daemon on node1, and traffic that must never fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use svc_tests::agent::{Agent, Job, Via};
use svc_tests::daemon::{Daemon, Flags, Source};
use svc_tests::topology::{Addrs, Family, Node, Options};
use svc_tests::world::World;
use svc_tests::{command, wait};

use crate::case::Case;
use crate::plane::{ACCOUNTS, Plane, ROLE, Request};
use crate::relay::Relay;

/// A change that the API server has taken shows in the traffic within this time, controllers and a busy machine included.
pub const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// node1's interface towards the hub.
pub const LINK: &str = "api0";
/// Requests per second of each of the four kinds of traffic.
const RATE: u32 = 40;

/// What all cases share, each part made when it is first asked for.
#[derive(Default)]
pub struct Theatre {
    /// Nobody hurts this API server.
    calm: Later<Arc<Plane>>,
    /// Objects come and go here, and nothing else happens.
    quiet: Later<Arc<Stage>>,
    hurt: Later<Arc<Stage>>,
    /// Who may hurt.
    pub turn: Mutex<()>,
}

impl Theatre {
    pub fn calm(&self) -> Result<Arc<Plane>> {
        self.calm.get(|| Ok(Arc::new(Plane::start("calm")?)))
    }

    /// The API server that is stopped, killed and frozen; by one case at a time.
    pub fn hurt(&self) -> Result<Arc<Stage>> {
        self.hurt.get(|| Ok(Arc::new(Stage::relayed("hurt", Arc::new(Plane::start("hurt")?))?)))
    }

    pub fn quiet(&self) -> Result<Arc<Stage>> {
        self.quiet.get(|| Ok(Arc::new(Stage::direct("quiet", self.calm()?)?)))
    }
}

/// Made by whoever comes first; the others wait for it.
struct Later<T>(Mutex<Option<T>>);

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Later<T> {
    fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.is_none() {
            *made = Some(make()?);
        }
        made.clone().context("nothing was made")
    }
}

/// Client pod `pod` and server `near` on node1, server `far` on node2, `client` outside, a daemon on node1 alone.
#[derive(Debug)]
pub struct Stage {
    pub name: String,
    /// Of the servers here: other stages have the same addresses.
    pub port: u16,
    /// Between the daemon and the API server, if the stage has one.
    relay: Option<Relay>,
    /// Running jobs, by what they do.
    traffic: Vec<(String, Job)>,
    world: Mutex<World>,
    agents: BTreeMap<String, Arc<Agent>>,
    addrs: BTreeMap<String, Addrs>,
    plane: Arc<Plane>,
}

impl Stage {
    /// The daemon talks to the API server itself.
    pub fn direct(name: &str, plane: Arc<Plane>) -> Result<Self> {
        Self::new(name, plane, false)
    }

    /// The daemon talks to the API server by way of a relay.
    pub fn relayed(name: &str, plane: Arc<Plane>) -> Result<Self> {
        Self::new(name, plane, true)
    }

    fn new(name: &str, plane: Arc<Plane>, relayed: bool) -> Result<Self> {
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
        let mut stage = Self {
            name: name.to_owned(),
            port,
            relay,
            traffic: Vec::new(),
            world: Mutex::new(world),
            agents,
            addrs,
            plane,
        };
        stage.introduce()?;
        stage.start_daemon()?;
        stage.traffic = stage.start_traffic()?;
        Ok(stage)
    }

    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// The name that Kubernetes knows a node by.
    pub fn node_name(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    /// The Node objects, and the account of the daemon with the role that svc has and nothing else.
    fn introduce(&self) -> Result<()> {
        (1..=2).try_for_each(|index| self.make_node(index))?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": self.name, "namespace": ACCOUNTS}});
        self.plane.create(&account)?;
        self.plane.create(&self.binding())
    }

    /// The Node object of a node, Ready.
    pub fn make_node(&self, index: usize) -> Result<()> {
        let name = self.node_name(index);
        let object = node_object(&name, self.lock().topology.node(index));
        self.plane.create(&object)?;
        let status = json!({"status": object["status"]}).to_string();
        let patch = ["patch", "node", &name, "--subresource=status", "--type=merge", "-p", &status];
        self.plane.kubectl(&patch).map(drop)
    }

    /// Gives the daemon's account the shipped role.
    pub fn binding(&self) -> Value {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": self.name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": ACCOUNTS}],
        })
    }

    fn start_daemon(&self) -> Result<()> {
        let token = self.plane.kubectl(&["create", "token", &self.name, "-n", ACCOUNTS])?;
        self.write_token(token.trim())?;
        let url = self.relay.as_ref().map(Relay::url);
        let mut world = self.lock();
        let kubeconfig = world.dir().join("kubeconfig");
        let text = {
            let control = self.plane.control();
            kubeconfig_text(&url.unwrap_or_else(|| control.url()), &control.ca(), &world.dir().join("token"))
        };
        fs::write(&kubeconfig, text).context("write the kubeconfig")?;
        let source = Source::Kubernetes { kubeconfig, node_name: self.node_name(1), link: LINK.into() };
        world.start_next(source, Flags::default())?;
        world.ready(1)
    }

    /// Puts another token in the place of the daemon's.
    pub fn write_token(&self, token: &str) -> Result<()> {
        let dir = self.lock().dir();
        let (path, fresh) = (dir.join("token"), dir.join("token.new"));
        fs::write(&fresh, token).and_then(|()| fs::rename(&fresh, &path)).context("write the token")
    }

    /// New connections and streams from the pod to a Service that nobody touches.
    fn start_traffic(&self) -> Result<Vec<(String, Job)>> {
        let case = Case::lasting(self, &self.name)?;
        case.pods(&["near", "far"])?;
        case.service("steady", &json!({"selector": {"stage": self.name}}))?;
        let mut traffic = Vec::new();
        for family in Family::BOTH {
            let to = case.cluster_ip("steady", family)?;
            self.soon_answered_by("far", "pod", to)?;
            let pod = self.agent("pod")?;
            traffic.push((format!("new connections to {to}"), pod.start_load(Via::Tcp, to, RATE)?));
            traffic.push((format!("a stream to {to}"), pod.start_stream(to, RATE)?));
        }
        Ok(traffic)
    }

    /// The traffic goes on, and nothing of it has failed since it began.
    pub fn unnoticed(&self) -> Result<()> {
        for (what, job) in &self.traffic {
            let start = job.look()?;
            let now = wait::until(&format!("{what} go on"), Duration::from_secs(10), || {
                let now = job.look()?;
                Ok((now.ok >= start.ok + 5 || now.failed > 0).then_some(now))
            })?;
            let first = &now.first_failure;
            ensure!(
                now.failed == 0,
                "{what}: {} of {} failed, first {first:?}",
                now.failed,
                now.ok + now.failed
            );
        }
        Ok(())
    }

    pub fn agent(&self, name: &str) -> Result<&Arc<Agent>> {
        self.agents.get(name).with_context(|| format!("no host {name}"))
    }

    pub fn addrs(&self, name: &str) -> Result<Addrs> {
        self.addrs.get(name).copied().with_context(|| format!("no host {name}"))
    }

    /// One request must be answered by this server.
    pub fn answered_by(&self, server: &str, client: &str, to: SocketAddr) -> Result<()> {
        let answers = self.agent(client)?.ask(Via::Tcp, to, 1)?;
        let names: Vec<&str> = answers.iter().map(|answer| answer.server.as_str()).collect();
        ensure!(names == [server], "expected {server} to answer {client} at {to}, {names:?} did");
        Ok(())
    }

    pub fn soon_answered_by(&self, server: &str, client: &str, to: SocketAddr) -> Result<()> {
        wait::until_true(&format!("{server} answers {client} at {to}"), CHANGE_LIMIT, || {
            self.answered_by(server, client, to).map(|()| true)
        })
    }

    /// The frontend is there and has nobody behind it.
    pub fn soon_refused(&self, client: &str, to: SocketAddr) -> Result<()> {
        wait::until_true(&format!("{client} is refused at {to}"), CHANGE_LIMIT, || {
            let refusal = self.agent(client)?.refused(Via::Tcp, to)?;
            ensure!(refusal.errno == libc::ECONNREFUSED, "{refusal:?}");
            Ok(true)
        })
    }

    /// Frontend -> backends in the kernel's tables, of the Services in a namespace.
    pub fn table(&self, namespace: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let rows = self.on_node(|node, daemon| daemon.get(node, "services"))?;
        let ours = |row: &&Value| {
            row["service"].as_str().is_some_and(|name| name.starts_with(&format!("{namespace}/")))
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = rows.as_array().into_iter().flatten().filter(ours);
        let backends = |row: &Value| {
            let mut backends: Vec<_> = row["backends"].as_array().into_iter().flatten().map(text).collect();
            backends.sort();
            backends
        };
        Ok(rows.map(|row| (text(&row["frontend"]), backends(row))).collect())
    }

    /// All that the kernel's tables say of frontends, names and counters apart.
    pub fn everything(&self) -> Result<BTreeSet<String>> {
        let rows = self.on_node(|node, daemon| daemon.get(node, "services"))?;
        let shown =
            |row: &Value| format!("{} {} {}", row["frontend"], row["backends"], row["local_backends"]);
        Ok(rows.as_array().into_iter().flatten().map(shown).collect())
    }

    pub fn relay(&self) -> Result<&Relay> {
        self.relay.as_ref().context("this stage has no relay")
    }

    /// What the daemon has asked the API server.
    pub fn requests(&self) -> Result<Vec<Request>> {
        self.plane.requests(&self.name)
    }

    /// Makes the way to the API server a black hole, or mends it.
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

    /// The daemon's status comes to name this failure of the API.
    pub fn soon_told(&self, kind: &str, reason: &str) -> Result<()> {
        wait::until_true(&format!("the status tells of {kind}: {reason}"), CHANGE_LIMIT, || {
            let status = self.on_node(|_, daemon| daemon.status())?;
            let mut told = status["rejected"].as_array().into_iter().flatten();
            let has = |value: &Value, word: &str| value.as_str().is_some_and(|text| text.contains(word));
            let found = told.any(|entry| has(&entry["field"], kind) && has(&entry["reason"], reason));
            ensure!(found, "it tells {}", status["rejected"]);
            Ok(true)
        })
    }

    /// Does something with node1 and its daemon.
    pub fn on_node<T>(&self, act: impl FnOnce(&Node, &mut Daemon) -> Result<T>) -> Result<T> {
        let mut world = self.lock();
        let (node, daemon) = world.on_node(1)?;
        act(node, daemon)
    }

    /// The authorizer has heard that the daemon may not list this.
    pub fn soon_cannot(&self, resource: &str) -> Result<()> {
        let account = format!("system:serviceaccount:{ACCOUNTS}:{}", self.name);
        wait::until_true(&format!("{account} may not list {resource}"), CHANGE_LIMIT, || {
            let mut kubectl = self.plane.control().kubectl()?;
            let asked = kubectl.args(["auth", "can-i", "list", resource, "--as", &account]).output()?;
            Ok(asked.stdout.starts_with(b"no"))
        })
    }

    /// A process of node1 reaches the API server at this address.
    pub fn reaches_api(&self, url: &str) -> Result<()> {
        let mut kubectl = self.on_node(|node, _| node.host.command(self.plane.kubectl_program()))?;
        kubectl.env("KUBECONFIG", self.plane.control().kubeconfig("admin"));
        wait::until_true(&format!("node1 reaches {url}"), CHANGE_LIMIT, || {
            command::run(kubectl.args(["--server", url, "get", "--raw", "/readyz"])).map(|said| said == "ok")
        })
    }

    pub fn ready(&self) -> Result<()> {
        self.lock().ready(1)
    }

    /// What a person wants to read beside a failed expectation.
    fn diagnosis(&self) -> String {
        let told = self.on_node(|_, daemon| {
            let status = daemon.status().unwrap_or_default();
            let told = ["synced", "generation", "last_error", "rejected"]
                .map(|key| format!("{key} {}", status[key]));
            Ok(format!("svc-ctl: {}\n{}", told.join(", "), daemon.log()))
        });
        told.unwrap_or_else(|error| format!("{error:#}"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the node an interface to the hub's bridge and an address there.
fn join_hub(plane: &Plane, node: &Node, number: u8) -> Result<()> {
    let netns = &node.host.netns;
    plane.control().hub().ip(&format!(
        "link add n{number} type veth peer name {LINK} netns {}\nlink set n{number} master br0 up",
        netns.name()
    ))?;
    netns.ip(&format!("addr add 172.30.0.{number}/24 dev {LINK}\nlink set {LINK} up"))
}

fn node_object(name: &str, node: &Node) -> Value {
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

fn kubeconfig_text(url: &str, ca: &std::path::Path, token: &std::path::Path) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "svc", "cluster": {"server": url, "certificate-authority": ca}}],
        "users": [{"name": "svc", "user": {"tokenFile": token}}],
        "contexts": [{"name": "svc", "context": {"cluster": "svc", "user": "svc"}}],
        "current-context": "svc",
    })
    .to_string()
}

/// A case on a stage that it has or shares: a sentence, the stage, what happens in a namespace of its own.
pub fn case_on(
    sentence: &str,
    set: impl FnOnce() -> Result<Arc<Stage>> + Send + 'static,
    act: impl FnOnce(&Stage, &Case<'_>) -> Result<()> + Send + 'static,
) -> Trial {
    let name = sentence.to_owned();
    Trial::test(sentence, move || play(&name, set, act))
}

/// Runs a case in a namespace of its own, and looks whether the traffic has noticed.
pub fn play(
    sentence: &str,
    set: impl FnOnce() -> Result<Arc<Stage>>,
    act: impl FnOnce(&Stage, &Case<'_>) -> Result<()>,
) -> Result<(), Failed> {
    let stage = set().map_err(|error| Failed::from(format!("no stage: {error:#}")))?;
    let run = || {
        let case = Case::new(&stage, sentence)?;
        act(&stage, &case)?;
        stage.unnoticed()
    };
    run().map_err(|error| format!("{error:#}\n{}", stage.diagnosis()).into())
}
