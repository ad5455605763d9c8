//! The examples in a simulated network of two nodes: a namespace for every Pod, made before it is Ready as a kubelet
//! does. Manifests are changed.

mod by_hand;
mod pod;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Client, Environment, Step, Target};
use crate::agent::{NamedServer, Via};
use crate::daemon::{Flags, Source};
use crate::show::interrupt;
use crate::show::screen::Screen;
use crate::topology::{Family, Options};
use crate::world::World;
use crate::{metrics_page, run_name};
use pod::Pod;

const FILES: [&str; 5] = ["nodes.yaml", "names.yaml", "web.yaml", "dns.yaml", "loadbalancer.yaml"];
/// The pools of load-balancer addresses.
const CONFIGURATION: &str = "loadbalancer.conf";
/// The pod from which the clients inside the cluster ask; no manifest names it.
const CLIENT_POD: &str = "client-pod";
/// The Service of the name servers, `kube-dns` of names.yaml.
const NAME_SERVER: &str = "10.96.0.2:53";
const HEARTBEAT: &str = "10258";

/// Clients that dial an address: UDP, and from outside NodePorts and the address of a LoadBalancer Service.
const CLIENTS: [(&str, Via, &str); 5] = [
    ("client", Via::Http, "192.0.2.200:80"),
    ("client", Via::Http, "192.0.2.1:30080"),
    ("client", Via::Http, "[2001:db8:1::1]:30080"),
    (CLIENT_POD, Via::UdpConnected, "10.96.0.53:53"),
    ("client", Via::UdpUnconnected, "192.0.2.1:30053"),
];

/// Clients that dial a name: a Service by both families, its Pods, and an alias.
const CLIENTS_BY_NAME: [(&str, &str, Family, u16); 5] = [
    (CLIENT_POD, "web", Family::V4, 80),
    (CLIENT_POD, "web", Family::V6, 80),
    ("node1", "web", Family::V4, 80),
    (CLIENT_POD, "web-pods", Family::V4, 8080),
    (CLIENT_POD, "www", Family::V4, 80),
];

/// The examples, alive.
pub(in crate::show) struct Examples {
    world: World,
    /// The current file of the web Service.
    web: String,
    /// The Pods in manifests.
    servers: BTreeSet<String>,
}

impl Environment for Examples {
    const STEPS: &'static [Step<Self>] = &[
        Step { name: "three replicas", begin: |_, _| Ok(()), has_losses: false },
        Step {
            name: "a replica is added",
            begin: |environment, _| environment.add_replica(),
            has_losses: false,
        },
        Step {
            name: "a replica is removed",
            begin: |environment, _| environment.take_replica_out(),
            has_losses: false,
        },
        Step { name: "node2 is killed", begin: |environment, _| environment.kill_node(), has_losses: true },
    ];
    const CHANGE_LIMIT: Duration = Duration::from_secs(10);
    const NAME_WIDTH: usize = 8;

    fn make(screen: &Screen) -> Result<Self> {
        interrupt::catch()?;
        screen.say("making two nodes, a client and the pods of examples/*.yaml");
        let mut world = World::new("show", Options::default())?;
        world.topology.node_mut(1).add_pod(CLIENT_POD)?;
        let mut environment = Self { world, web: String::new(), servers: BTreeSet::new() };
        let examples = run_name::workspace_dir().join("examples");
        for file in FILES {
            let path = examples.join(file);
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            environment.run_pods(&text)?;
            environment.world.folder.write(file, &text)?;
            if file == "web.yaml" {
                environment.web = text;
            }
        }
        for _ in 1..=2 {
            let more = [
                "--dns-upstream=".into(),
                format!("--node-heartbeat={HEARTBEAT}"),
                format!("--config={}", examples.join(CONFIGURATION).display()),
            ];
            let source = Source::Manifests(environment.world.folder.path().into());
            environment.world.start_next_with(source, Flags::default(), more.to_vec())?;
        }
        (1..=2).try_for_each(|node| environment.world.ready(node))?;
        Ok(environment)
    }

    fn clients(&self) -> Result<Vec<Client>> {
        let agent = |host| self.world.topology.host(host).map(|host| Arc::clone(&host.agent));
        let by_address = CLIENTS.into_iter().map(|(host, via, to)| {
            let to = Target::Address(to.parse().with_context(|| format!("{to} is no address"))?);
            Ok(Client { agent: agent(host)?, via, to })
        });
        let by_name = CLIENTS_BY_NAME.into_iter().map(|(host, service, family, port)| {
            let name = format!("{service}.default.svc.cluster.local.");
            let to = Target::Name(NamedServer { server: NAME_SERVER.parse()?, name, family, port });
            Ok(Client { agent: agent(host)?, via: Via::Http, to })
        });
        by_address.chain(by_name).collect()
    }

    fn wrong(&mut self, answered: &BTreeSet<&str>) -> Result<Option<String>> {
        let should: BTreeSet<&str> = self.servers.iter().map(String::as_str).collect();
        Ok((*answered != should).then(|| format!("{answered:?} answer, not {should:?}")))
    }

    fn metrics_page(&self) -> Result<String> {
        metrics_page::of(&self.world.topology.node(1).host.netns)
    }

    fn diagnosis(&self) -> String {
        self.world.diagnosis()
    }

    fn by_hand(&mut self) -> Result<String> {
        by_hand::lines(&mut self.world)
    }
}

impl Examples {
    /// Adds a fourth web Pod: first it runs, then the manifest has it.
    fn add_replica(&mut self) -> Result<()> {
        let third = documents(&self.web).find(|document| document.contains("name: web-3"));
        let third = third.context("web.yaml has no Pod web-3")?;
        let fourth = third.replace("web-3", "web-4").replace(".23", ".24").replace("::23", "::24");
        self.run_pods(&fourth)?;
        self.rewrite(format!("{}---\n{fourth}", self.web))
    }

    /// Takes the second web Pod out of the manifest; it goes on running, as Pods do while they end.
    fn take_replica_out(&mut self) -> Result<()> {
        let rest: Vec<&str> =
            documents(&self.web).filter(|document| !document.contains("name: web-2")).collect();
        self.servers.remove("web-2");
        self.rewrite(rest.join("---\n"))
    }

    /// Node2 with its daemon, its programs and its Pods, as if its power were off. No manifest changes: node1 must find
    /// out by itself.
    fn kill_node(&mut self) -> Result<()> {
        self.world.daemon(2)?.kill()?;
        // Firewall rules on node2 would not do: its programs answer ARP before them.
        self.world.topology.lan().ip("link set f-node2 down")?;
        let dead = &self.world.topology.node(2).pods;
        self.servers.retain(|server| !dead.contains_key(server));
        Ok(())
    }

    fn rewrite(&mut self, text: String) -> Result<()> {
        self.web = text;
        self.world.folder.write("web.yaml", &self.web)
    }

    /// Runs a server in a namespace of its own for every Pod of a file.
    fn run_pods(&mut self, text: &str) -> Result<()> {
        for Pod { name, node, addrs, port } in pod::read_all(text)? {
            let made = self.world.topology.node_mut(node).add_pod_at(&name, addrs)?;
            made.host.agent.serve(port)?;
            self.servers.insert(name);
        }
        Ok(())
    }
}

fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("---\n")
}
